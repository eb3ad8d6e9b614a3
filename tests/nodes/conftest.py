"""Fixtures of this package."""

from tests.storage.seaweed import seaweed

__all__ = ["seaweed"]

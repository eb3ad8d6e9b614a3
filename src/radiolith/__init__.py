"""Radiolith: a medical image archive."""

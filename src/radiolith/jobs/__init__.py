"""Durable background work and the followers of the change feed; knows no policy."""

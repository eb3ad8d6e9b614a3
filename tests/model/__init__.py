"""The reference model of corrections: plain dictionaries, no index."""

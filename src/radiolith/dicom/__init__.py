"""DICOM encodings: reading headers, frames, text, JSON and XML. Knows bytes; knows no storage and no index."""

"""The DICOM Conformance Statement and the IHE Integration Statement, generated from the tables the code runs on.

May read both DICOM edges, which know nothing of each other; nothing but the command line may read it. Its own words
explain; what is supported is never written down here a second time.
"""

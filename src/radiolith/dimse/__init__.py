"""DIMSE: the DICOM message exchange over TCP (PS3.7, PS3.8), as an edge of the archive.

The protocol itself is pure: `items` and `pdu` (bytes and what they mean), `upperlayer` (the state machine), `messages`
(commands and data sets in fragments), `association` (negotiation), `sopclasses` (tables). None of them knows a socket, a
clock or a thread.
"""

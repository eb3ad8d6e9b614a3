"""Pixel codecs: transfer syntax registry, sandboxed decoder processes, frame transcoding and rendering.

`registry`, `description`, `limits` and `sandbox` are for the server's processes and import neither numpy nor a codec.
Everything else runs inside decoder processes only, where no byte of a received object can reach a file, a socket or
another object (see `confine`).
"""

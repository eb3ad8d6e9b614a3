"""The demo's studies: computed, so that there is something to show and nobody's privacy is at stake.

Owns: the shapes, patients and documents. Must never: be used by the archive itself. Everything is derived from fixed
seeds: the same version of this package makes the same files, byte for byte, so a demo can be imported twice.
"""

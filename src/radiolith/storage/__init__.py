"""The segment log, the keyring and their backends: bytes with an id, encrypted, durable. Knows nothing of DICOM."""

"""The DICOMweb edge (PS3.18): translates HTTP into the archive's verbs and their answers back; never decides."""

"""The pages a person sees, the interface for administration under /api/v1, and what monitors ask.

An edge like DICOMweb: it translates, the verbs decide. `routes.routes` builds the table of addresses.
"""

"""Security in the statement (PS3.2 N.8).

Owns: the words. Must never: claim a profile of PS3.15 that no setting switches on.
"""

from __future__ import annotations

from radiolith.conformance.declared import Declared
from radiolith.conformance.document import Section, Table
from radiolith.trust.access import ROLES
from radiolith.trust.certificates import SUITES


def section(declared: Declared) -> Section:
    settings = declared.settings
    ports = Table.of(
        "TCP ports",
        ("port", "address", "protocol", "direction"),
        [
            (settings.http.port, settings.http.host, "HTTP: DICOMweb and pages", "in"),
            (settings.metrics.port or "`metrics.port`", settings.metrics.host, "HTTP: metrics and health alone", "in"),
            (settings.dimse.port, settings.dimse.host, "DICOM upper layer", "in"),
            (settings.dimse.tls_port or "`dimse.tls_port`", settings.dimse.host, "DICOM upper layer over TLS", "in"),
            ("of the peer", "of the peer", "DICOM upper layer", "out"),
            ("of the webhook", "of the webhook", "HTTP over TLS: what has happened", "out"),
        ],
    )
    suites = ", ".join(f"`{suite}`" for suite in SUITES)
    transport = (
        "DIMSE over TLS in both directions, with the BCP 195 RFC 8996, 9325 TLS profile (PS3.15 B.12), on a port of its own"
        f" (`dimse.tls_port`): TLS 1.3, and TLS 1.2 with {suites}. No compression, renegotiation or session tickets. The"
        " certificates of devices are required, asked for, or not (`dimse.tls_clients`); ours is shown to peers that ask."
    )
    identity = (
        "User identity negotiation: a user name with a passcode (type 2) and a JSON web token (type 5, a token of the"
        " archive) are checked against its users; a name alone (1), Kerberos (3) and SAML (4) are refused with a reason."
    )
    roles = Table.of(
        "Roles", ("role", "may"), [(role, ", ".join(sorted(each.value for each in may))) for role, may in ROLES.items()]
    )
    audit = (
        "Every store, search, retrieval, change and refusal is on record in an audit trail of its own form. Audit messages"
        " of PS3.15 A.5 are not sent."
    )
    return Section(
        "Security",
        (
            "Everything kept is encrypted (AES-256-GCM), one key per object under the key of its study. Nothing but"
            " loopback listens until the settings say so.",
        ),
        (
            Section("TCP port configuration", (ports,)),
            Section("Secure transport", (
                transport,
                "HTTP beyond this machine needs a proxy that speaks TLS (`http.behind_tls`).",
            )),
            Section("Identities and roles", (identity, roles)),
            Section("Audit trail", (audit,)),
            Section("Digital signatures, media security, de-identification", (
                "Signatures in objects are kept, neither made nor checked. No media security or confidentiality profile.",
            )),
        ),
    )  # fmt: skip

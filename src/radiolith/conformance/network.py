"""Configuration and communication details in the statement (PS3.2 N.6, N.7): settings, contexts, policies, statuses.

Owns: the words. Must never: repeat a figure that a constant or a setting has.
"""

from __future__ import annotations

from dataclasses import fields

from radiolith.conformance import web
from radiolith.conformance.declared import STORE, Declared, name
from radiolith.conformance.document import Block, Section, Table
from radiolith.dicom import part10, syntax
from radiolith.dimse import acceptor, association, exchange, items, operation, pdu, server
from radiolith.dimse.association import reject_text
from radiolith.dimse.pdu import AssociateReject
from radiolith.dimse.status import Service, Status, trouble
from radiolith.model import Failure

_UNIT = "bytes"
_FEW = 4
"""Transfer syntaxes that are named one by one; a longer list is that of the content table."""


def content(declared: Declared) -> Section:
    """N.1.1: which objects are kept, and in which transfer syntaxes."""
    kept = declared.offer.unknown or next(
        (declared.offer.accepts[uid] for uid in declared.classes(STORE)), association.Accepts(())
    )
    rows = [
        (name(uid), uid, "video" if uid in syntax.VIDEO else "native" if uid in syntax.NATIVE else "encapsulated")
        for uid in kept.transfer_syntaxes
    ]
    words = (
        f"Objects of {len(declared.classes(STORE))} storage SOP classes (1.2) are stored as they come in each of"
        f" {len(rows)} transfer syntaxes, and given back in the same. The order is that of preference where a sender"
        " offers several for one presentation context."
    )
    return Section("Content and transfer", (words, Table.of("Transfer syntaxes kept", ("name", "UID", "pixels"), rows)))


def configuration(declared: Declared) -> Section:
    """N.6."""
    rows = [
        (f"dimse.{entry.name}", _shown(getattr(declared.settings.dimse, entry.name)), entry.metadata["why"])
        for entry in fields(declared.settings.dimse)
    ]
    peers = (
        "Remote AEs are added with `radiolith peer add NAME --aet AET --address HOST --port N`. A caller is who its network"
        " address (or certificate) and its AE title together say. While nothing but loopback listens, every AE title of"
        " this machine may call."
    )
    web_rows = [
        (f"http.{entry.name}", _shown(getattr(declared.settings.http, entry.name)), entry.metadata["why"])
        for entry in fields(declared.settings.http)
    ]
    columns = ("setting", "value", "why")
    return Section(
        "Configuration",
        ("In `radiolith.toml`, or as variables: `dimse.port` is `RADIOLITH_DIMSE_PORT`. Read once, at start.",),
        (
            Section("DIMSE services", (peers, Table.of("Settings of DIMSE", columns, rows))),
            Section("DICOM Web Services", (Table.of("Settings of HTTP", columns, web_rows),)),
        ),
    )


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value) or "none"  # pyright: ignore[reportUnknownVariableType]
    return f"`{value}`"


# ---------------------------------------------------------------- communication


def details(declared: Declared) -> Section:
    """N.7."""
    return Section(
        "Network and media communication details",
        (),
        (
            Section("General association parameters", (_general(declared),)),
            Section("ARCHIVE application entity", (), (_initiation(declared), _acceptance(declared))),
            Section("Status codes", (), (_rejections(), _statuses(declared), web.statuses())),
        ),
    )


def _general(declared: Declared) -> Table:
    offer, dimse = declared.offer, declared.settings.dimse
    window = offer.window
    rows = [
        ("Application context", pdu.APPLICATION_CONTEXT),
        ("Implementation Class UID", offer.implementation_uid),
        ("Implementation Version Name", offer.implementation_version),
        ("Maximum length of a P-DATA-TF PDU received", f"{offer.max_length:,} {_UNIT}" if offer.max_length else "any"),
        ("Presentation contexts of an association", items.CONTEXTS_MAX),
        ("Transfer syntaxes of a presentation context", items.TRANSFER_SYNTAXES_MAX),
        ("Associations accepted at a time, of all processes of a node", dimse.associations),
        ("of these from one network address", dimse.associations_per_address),
        ("Asynchronous operations window, operations invoked / performed", f"{window.invoked} / {window.performed}"),
        ("Operations of one association under way", exchange.OPERATIONS_MAX),
        ("Identifier of a query", f"{operation.DATA_SET_MAX:,} {_UNIT}"),
        ("Data set of N-ACTION and N-EVENT-REPORT", f"{operation.ACTION_MAX:,} {_UNIT}"),
        ("ARTIM timer", f"{acceptor.ARTIM_SECONDS:.0f} s"),
        ("Silence after which an association is aborted", f"{dimse.idle_seconds} s"),
        ("Time for associations to end when the server stops", f"{server.STOP_SECONDS:.0f} s"),
        ("File meta information written", f"{part10.IMPLEMENTATION_UID} {part10.IMPLEMENTATION_VERSION}"),
    ]
    return Table.of("Association parameters; 0 is unlimited", ("parameter", "value"), rows)


def _initiation(declared: Declared) -> Section:
    rows = [(name(uid), uid, request, _syntaxes(syntaxes)) for (request, uid), syntaxes in declared.proposed.items()]
    if not rows:
        return Section("Association initiation", ("No associations are opened.",))
    columns = ("SOP class", "UID", "request", "transfer syntaxes")
    words = (
        "Associations are opened to peers that were added, for what a person or another system asked for. Objects are"
        " proposed in the transfer syntax in which they are stored, and uncompressed."
    )
    return Section("Association initiation", (words, Table.of("Presentation contexts proposed", columns, rows)))


def _acceptance(declared: Declared) -> Section:
    groups: dict[tuple[str, ...], list[str]] = {}
    for uid, accepts in declared.offer.accepts.items():
        groups.setdefault(accepts.transfer_syntaxes, []).append(uid)
    blocks: list[Block] = [
        "Of the transfer syntaxes of a context, one is accepted: the first in the order of preference. SCP/SCU role"
        " selection, user identity, asynchronous operations, SOP class extended and common extended negotiation are"
        " answered."
    ]
    for syntaxes, classes in groups.items():
        rows = [
            (name(uid), uid, "/".join(declared.requests(uid)), _role(declared.offer.accepts[uid])) for uid in classes
        ]
        columns = ("SOP class", "UID", "requests", "roles")
        blocks.append(Table.of(f"Presentation contexts accepted in {_syntaxes(syntaxes)}", columns, rows))
    return Section("Association acceptance", tuple(blocks))


def _syntaxes(uids: tuple[str, ...]) -> str:
    return f"all {len(uids)} of 1.1" if len(uids) > _FEW else ", ".join(name(each) for each in uids)


def _role(accepts: association.Accepts) -> str:
    return "/".join(role for role, plays in (("SCP", accepts.scp), ("SCU", accepts.scu)) if plays)


# ---------------------------------------------------------------- statuses


def _rejections() -> Section:
    found = [value for value in vars(association).values() if isinstance(value, AssociateReject)]
    rows = sorted({(f"{each.result}/{each.source}/{each.reason}", reject_text(each)) for each in found})
    columns = ("result/source/reason", "in the words of PS3.8 table 9-21")
    return Section("Association rejection", (Table.of("Reasons for which associations are rejected", columns, rows),))


def _statuses(declared: Declared) -> Section:
    used = dict.fromkeys(_service(request) for request in declared.all_requests() if request != "C-ECHO")
    codes = [(f"{code:04X}", _spoken(key)) for key, code in sorted(vars(Status).items(), key=_code) if key.isupper()]
    tables = [_failures(service) for service in used]
    return Section(
        "DIMSE services",
        (Table.of("Status codes sent or acted on", ("status", "meaning"), codes), *tables),
    )


def _code(entry: tuple[str, object]) -> int:
    return entry[1] if isinstance(entry[1], int) else -1


def _spoken(key: str) -> str:
    return key.lower().replace("_", " ").replace("sop ", "SOP ")


def _service(request: str) -> Service:
    return next((service for service in Service if request in service.value.split(", ")), Service.NORMALIZED)


def _failures(service: Service) -> Table:
    """What a failure becomes, asked of the function that answers it."""
    rows: list[tuple[str, str]] = []
    for kind in (*_kinds(Failure), RuntimeError):
        answer = trouble(service, kind("words"))
        words = (kind.__doc__ or "").split("\n")[0] if issubclass(kind, Failure) else "Anything nobody foresaw."
        rows.append((f"{answer.status:04X}", words))
    return Table.of(f"Failures of {service.value}", ("status", "when"), rows)


def _kinds(of: type[Failure]) -> list[type[Failure]]:
    """The failures that `model` declares."""
    found = [each for each in of.__subclasses__() if each.__module__ == Failure.__module__]
    return [inner for each in found for inner in (each, *_kinds(each))]

"""What the sealed trailer of a record says: the facts of reception that the DICOM bytes do not carry.

Owns: the JSON in the trailer (docs/format/segment.md, "sealed metadata"), both ways. Must never: hold anything the
rebuild can read from the header again. Limits: under 64 KiB; long frame tables lie in the payload, not here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson

from radiolith.model import Description, Identity, Incoming, Layout, Pixels, Source

_LAYOUT = (
    "dataset_start",
    "dataset_end",
    "original_size",
    "header_end",
    "pixel_tag",
    "pixel_start",
    "pixel_length",
    "frames",
    "rows",
    "columns",
    "samples",
    "bits_allocated",
    "table_offset",
)


@dataclass(frozen=True, slots=True)
class Reception:
    """One received object as its trailer describes it; `layout` is None for quarantined bytes."""

    kind: str  # 'object' | 'quarantine'
    identity: Identity | None
    sop_class: str
    sha256: bytes
    received_at: int
    source: Source
    principal: str
    policy: str
    encoding_of: bytes | None
    layout: Layout | None
    size: int
    reason: str = ""
    guess: dict[str, str] | None = None
    domain: str = ""  # whose patient IDs the sender uses, where the header does not say


def dump(reception: Reception) -> bytes:
    identity, source = reception.identity, reception.source
    body: dict[str, object] = {
        "kind": reception.kind,
        "original_size": reception.size,
        "name": f"{identity.sop}.dcm" if identity else "",
        "class": reception.sop_class,
        "sha256": reception.sha256.hex(),
        "at": reception.received_at,
        "door": source.door,
        "peer": source.peer,
        "address": source.address,
        "by": reception.principal,
        "policy": reception.policy,
    }
    if identity:
        body |= {"study": identity.study, "series": identity.series, "sop": identity.sop}
    if reception.domain:
        body["domain"] = reception.domain
    if reception.encoding_of:
        body["encoding_of"] = reception.encoding_of.hex()
    if reception.reason:
        body |= {"reason": reception.reason, "guess": reception.guess or {}}
    if reception.layout:
        body["layout"] = dump_layout(reception.layout)
    return orjson.dumps(body)


def load(meta: bytes) -> Reception:
    body = orjson.loads(meta)
    return Reception(
        kind=body["kind"],
        identity=Identity(body["study"], body["series"], body["sop"]) if "sop" in body else None,
        sop_class=body["class"],
        sha256=bytes.fromhex(body["sha256"]),
        received_at=body["at"],
        source=Source(body["door"], body["peer"], body["address"]),
        principal=body["by"],
        policy=body["policy"],
        encoding_of=bytes.fromhex(body["encoding_of"]) if "encoding_of" in body else None,
        layout=load_layout(body["layout"]) if "layout" in body else None,
        size=body["original_size"],
        reason=body.get("reason", ""),
        guess=body.get("guess"),
        domain=body.get("domain", ""),
    )


def in_domain(description: Description, domain: str) -> Description:
    """The description with the domain as issuer of a patient ID that names none (docs/decisions/105)."""
    patient = description.patient
    if not domain or not patient.get("patient_id") or patient.get("issuer_key"):
        return description
    return replace(description, patient={**patient, "issuer_key": domain})


def of_incoming(incoming: Incoming, domain: str = "") -> Reception:
    return Reception(
        "object",
        incoming.identity,
        incoming.sop_class,
        incoming.sha256,
        incoming.received_at,
        incoming.source,
        incoming.principal,
        incoming.policy,
        incoming.encoding_of,
        incoming.layout,
        incoming.layout.original_size,
        domain=domain,
    )


def dump_layout(layout: Layout) -> list[object]:
    numbers: list[object] = [getattr(layout, name) for name in _LAYOUT]
    return [layout.transfer_syntax, layout.pixels.value, numbers, [list(frame) for frame in layout.frames_inline]]


def load_layout(body: list[object]) -> Layout:
    syntax, pixels, numbers, frames = body
    return Layout(
        transfer_syntax=str(syntax),
        pixels=Pixels(pixels),
        frames_inline=tuple((int(a), int(b)) for a, b in frames),  # type: ignore[union-attr]
        **dict(zip(_LAYOUT, numbers, strict=True)),  # type: ignore[arg-type]
    )

"""Storage Commitment (PS3.18 ch. 13, modules J.1 and J.2): does the archive keep these instances?

Owns: request and response documents. A request names instances (Referenced SOP Sequence) or studies and series
(Referenced Study Sequence), which are expanded here to the instances held. Must never: commit by itself.

Limits: DOCUMENT_BYTES_MAX of request, ITEMS_MAX instances.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import orjson

from radiolith.archive.ports import CommitmentResult
from radiolith.dicomweb.call import Call
from radiolith.dicomweb.resources import Reply
from radiolith.dicomweb.respond import Answer
from radiolith.dicomweb.status import UnsupportedMedia
from radiolith.model import BadInput, LimitExceeded, NotFound

DOCUMENT_BYTES_MAX = 32 << 20
ITEMS_MAX = 100_000
JSON = ("application/dicom+json", "application/json")
RETRY_SECONDS = "5"

Dataset = dict[str, object]


async def request(call: Call) -> Reply:
    """POST /commitment-requests/{transactionUID}: 200 with the result, or 202 while it is being found out."""
    media, _ = call.content_type()
    if media not in JSON:
        raise UnsupportedMedia("a commitment request is application/dicom+json")
    transaction = call.uid("transaction")
    document = dataset(await call.document(DOCUMENT_BYTES_MAX))
    items = list(instances(document))
    async for item in _of_studies(call, document):
        items.append(item)
        if len(items) > ITEMS_MAX:  # a short request can name a large study a thousand times
            break
    if not items:
        raise BadInput("the request names no instance, series or study")
    if len(items) > ITEMS_MAX:
        raise LimitExceeded(f"a commitment request may name {ITEMS_MAX} instances")
    await call.archive.commitment.request(call.principal, transaction, items)
    return await _answer(call, transaction)


async def result(call: Call) -> Reply:
    """GET /commitment-requests/{transactionUID}."""
    return await _answer(call, call.uid("transaction"))


async def _answer(call: Call, transaction: str) -> Reply:
    found = await call.archive.commitment.result(call.principal, transaction)
    if found is None:
        raise NotFound("there is no commitment request with this transaction UID")
    if found.state != "done":
        return Answer(status=202, headers=[("retry-after", RETRY_SECONDS)])
    return Answer(orjson.dumps(response(found)), "application/dicom+json")


def dataset(body: bytes) -> Dataset:
    """One DICOM JSON object, or an array with one. Raises BadInput."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadInput("the body is no JSON") from None
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    if not isinstance(document, dict):
        raise BadInput("the body is not one DICOM JSON object")
    return document


def instances(document: Dataset) -> Iterator[tuple[str, str]]:
    """(SOP class, SOP instance) of Referenced SOP Sequence."""
    for item in items(document, "00081199"):
        sop_class, sop = uid(item, "00081150"), uid(item, "00081155")
        if not sop_class or not sop:
            raise BadInput("an item of Referenced SOP Sequence names no SOP class or no SOP instance")
        yield sop_class, sop


async def _of_studies(call: Call, document: Dataset) -> AsyncIterator[tuple[str, str]]:
    """The instances of Referenced Study Sequence: those listed, else all that are held of the series or study."""
    for study in items(document, "00081110"):
        study_uid = uid(study, "0020000D")
        if not study_uid:
            raise BadInput("an item of Referenced Study Sequence names no study")
        series = items(study, "00081115")
        for one in series or [{}]:
            listed = list(_listed(one))
            for pair in listed:
                yield pair
            if not listed:
                for pair in await call.archive.commitment.items(call.principal, study_uid, uid(one, "0020000E")):
                    yield pair


def _listed(series: Dataset) -> Iterator[tuple[str, str]]:
    """Referenced Instances by SOP Class Sequence, or the plain Referenced SOP Sequence of a series."""
    for group in items(series, "00081112"):
        for item in items(group, "0008114A"):
            sop_class, sop = uid(group, "00081150"), uid(item, "00081155")
            if not sop_class or not sop:
                raise BadInput("an item of Referenced Instance Sequence names no SOP class or no SOP instance")
            yield sop_class, sop
    yield from instances(series)


def items(document: Dataset, tag: str) -> list[Dataset]:
    """The items of a sequence; raises BadInput where something else stands there."""
    element = document.get(tag, {})
    value = element.get("Value", []) if isinstance(element, dict) else None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadInput(f"({tag[:4]},{tag[4:]}) is not a sequence")
    return value


def uid(document: Dataset, tag: str) -> str:
    element = document.get(tag, {})
    value = element.get("Value", []) if isinstance(element, dict) else None
    if (
        not isinstance(value, list)
        or len(value) > 1
        or not all(isinstance(word, str) and len(word) <= 128 for word in value)
    ):
        raise BadInput(f"({tag[:4]},{tag[4:]}) is not one UID")
    return value[0].strip("\0 ") if value else ""


def response(found: CommitmentResult) -> dict[str, object]:
    """Module J.2: what is committed, and what is not and why (PS3.3 C.14.1.1)."""
    document: dict[str, object] = {"00081195": _element("UI", found.transaction_uid)}
    if found.failed:
        document["00081198"] = {
            "vr": "SQ",
            "Value": [
                {"00081150": _element("UI", c), "00081155": _element("UI", i), "00081197": _element("US", reason)}
                for c, i, reason in found.failed
            ],
        }
    if found.committed:
        document["00081199"] = {
            "vr": "SQ",
            "Value": [{"00081150": _element("UI", c), "00081155": _element("UI", i)} for c, i in found.committed],
        }
    return document


def _element(vr: str, value: str | int) -> dict[str, object]:
    return {"vr": vr, "Value": [value]}

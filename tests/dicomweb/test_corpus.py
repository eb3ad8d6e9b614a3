"""Every real file through the edge: stored, described, cut into frames and shown, or told clearly why not."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pydicom
import pytest

from radiolith.codecs.sandbox import Decoders
from radiolith.dicomweb.routes import Edge
from tests import campaign
from tests.archive.homes import opened, principal
from tests.dicomweb.driver import Reply, ask
from tests.dicomweb.objects import multipart

AT_ONCE = 25  # files a request
PICTURES_EVERY = 5  # of the instances, but for the long run: decoders are processes, and slow ones on a busy machine
LARGE = 8_000_000  # bytes: of larger files only the object itself is fetched back


def boundary_for(datas: list[bytes]) -> str:
    """A boundary none of the files holds (some of the corpus are multipart bodies themselves)."""
    return next(b for n in range(1000) if not any((b := f"corpus-{n}").encode() in data for data in datas))


@pytest.mark.timeout(600)
async def test_every_file(corpus_files: list[Path], tmp_path: Path, decoders: Decoders) -> None:
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    async with opened(tmp_path / "home", decoders) as graph:
        edge = Edge(graph.archive, graph.identities, graph.settings.limits)
        token = await graph.accounts.add_token(principal(graph), "corpus", "admin")

        async def get(target: str, accept: str = "*/*") -> Reply:
            return await ask(edge, "GET", target, token=token, headers={"accept": accept})

        stored: list[dict[str, Any]] = []
        for at in range(0, len(corpus_files), AT_ONCE):
            datas = [data for path in corpus_files[at : at + AT_ONCE] if (data := path.read_bytes())]
            boundary = boundary_for(datas)
            body = multipart([({"Content-Type": "application/dicom"}, data) for data in datas], boundary)
            headers = {"content-type": f'multipart/related; type="application/dicom"; boundary={boundary}'}
            pieces = [body[a : a + 65536] for a in range(0, len(body), 65536)]
            reply = await ask(edge, "POST", "/studies", token=token, headers=headers, body=pieces)
            assert reply.status in (200, 202), reply.body[:500]
            items = reply.json.get("00081199", {}).get("Value", [])
            others = reply.json.get("0008119A", {}).get("Value", [])
            assert len(items) + len(others) == len(datas)
            assert all(item["00081197"]["Value"] == [0xC001] for item in others), others
            stored += items
            seen["stored"] += len(items)
            seen["quarantined"] += len(others)
        urls = {i["00081155"]["Value"][0]: i["00081190"]["Value"][0] for i in stored if "00081190" in i}
        every = 1 if campaign.LONG else PICTURES_EVERY
        for number, (sop, url) in enumerate(urls.items()):
            pictures = number % every == 0
            problem = await _one(get, sop, url.removeprefix("http://pacs.example/dicom-web"), seen, pictures)
            if problem:
                wrong.append(problem)
    print(dict(seen))
    assert not wrong, "\n".join(wrong)
    assert seen["stored"] > seen["quarantined"] * 5 and seen["frames 200"] > 20 and seen["rendered 200"] > 20


async def _one(get: Any, sop: str, target: str, seen: Counter[str], pictures: bool) -> str:
    """What is wrong with one instance, or ''."""
    whole = await get(target, "application/dicom; transfer-syntax=*")
    if whole.status != 200 or not whole.complete or whole.body[128:132] != b"DICM":
        return f"{sop}: object {whole.status}"
    if len(whole.body) > LARGE:
        return ""
    described = target + ("/metadata" if target.startswith("/studies/") else "")  # of non-patient instances: themselves
    meta = await get(described, "application/dicom+json")
    if meta.status != 200 or meta.json[0]["00080018"]["Value"][0] != sop:
        return f"{sop}: metadata {meta.status}"
    xml = await get(described, "application/dicom+xml")
    try:
        ElementTree.fromstring(xml.parts[0][1])
    except ElementTree.ParseError as error:
        return f"{sop}: XML {error}"
    if not pictures or described == target:
        return ""
    for what, accept in (("frames", "application/octet-stream"), ("rendered", "image/jpeg"), ("thumbnail", "*/*")):
        reply = await get(f"{target}/frames/1" if what == "frames" else f"{target}/{what}", accept)
        seen[f"{what} {reply.status}"] += 1
        if reply.status not in (200, 404, 406) or (reply.status != 200 and not reply.json["detail"]):
            return f"{sop}: {what} {reply.status} {reply.body[:200]!r}"
    explicit = await get(target, "application/dicom")
    seen[f"explicit {explicit.status}"] += 1
    if explicit.status != 200 or not explicit.complete:
        return f"{sop}: explicit {explicit.status} {explicit.body[:200]!r}"
    before, after = _read(whole.body), _read(explicit.body)
    if before is not None and (after is None or [e.tag for e in before] != [e.tag for e in after if e.tag.elem]):
        return f"{sop}: not the same elements in Explicit VR Little Endian"
    return ""


def _read(data: bytes) -> pydicom.Dataset | None:
    """The header as pydicom reads it, None where it cannot; its group lengths, which are not rewritten, left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True)
            for tag in [tag for tag in ds if tag.tag.elem == 0]:
                del ds[tag.tag]
            return ds
        except Exception:
            return None

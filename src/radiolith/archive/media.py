"""Import from folders, files, ZIP archives and media with a DICOMDIR; export to a folder.

Owns: finding what is on a medium, without following anything out of it, and the summary of what was not taken and why.
Must never: use a name from inside a file as a path to write to, follow a symbolic link, or hold a member whole.
Limits: ZIP_MEMBERS, ZIP_RATIO and ZIP_BYTES against bombs; CONCURRENT files at once.
Resumable: what was acknowledged is noted by a hash of path, size and time; the same call again goes on after it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import zipfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import orjson

from radiolith.archive.ingest import Ingest, Intake
from radiolith.dicom.json import to_json
from radiolith.dicom.reader import Unparsable, scan
from radiolith.model import BadInput, Failure, LimitExceeded, NoSpace, Outcome, Principal, Receipt, Source, Unavailable
from radiolith.storage.drafts import SMALL

CONCURRENT = 48  # files under way: three batches of the commit; what is read at once is bounded by ingest's buffers
SOURCE = Source("import", "import")
PIECE = 1 << 20
ZIP_MEMBERS = 1_000_000
ZIP_RATIO = 200  # inflated : packed; DICOM of zeros packs 1:1000 but is not worth a bomb's risk below 64 MiB
ZIP_FREE = 64 << 20  # members up to this size may have any ratio
ZIP_BYTES = 4 << 40  # of one archive, inflated
DIRECTORY_BYTES = 64 << 20  # of a DICOMDIR
_FOREIGN = {
    b"%PDF": "a PDF document",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"GIF8": "a GIF picture",
    b"MZ": "a program",
    b"\x7fELF": "a program",
    b"MSH|": "an HL7 message",
    b"<?xml": "an XML document",
    b"<!DO": "a web page",
    b"<htm": "a web page",
}


@dataclass(frozen=True, slots=True)
class Found:
    """One file on the medium: how it is called there, and how to read it."""

    name: str
    size: int
    mark: bytes  # tells whether it was taken before
    open: Callable[[], BinaryIO]


@dataclass(slots=True)
class ImportSummary:
    files: int = 0
    bytes: int = 0
    stored: int = 0
    duplicates: int = 0
    versions: int = 0
    encodings: int = 0
    resumed: int = 0  # taken by an earlier call
    quarantined: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])  # name, reason, id
    not_taken: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # name, reason


class Journal:
    """What was acknowledged, 16 bytes a file, in a file of this home. Losing it costs time only."""

    def __init__(self, path: Path):
        self._path = path
        data = path.read_bytes() if path.exists() else b""
        self._seen = {data[at : at + 16] for at in range(0, len(data) - 15, 16)}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        if len(data) % 16:  # torn by a crash: start on a boundary again
            self._file.write(bytes(16 - len(data) % 16))

    def __contains__(self, mark: bytes) -> bool:
        return mark in self._seen

    def add(self, mark: bytes) -> None:
        self._seen.add(mark)
        self._file.write(mark)

    def close(self) -> None:
        self._file.close()


Progress = Callable[[ImportSummary], None]


class Importer:
    def __init__(self, ingest: Ingest, principal: Principal, journal: Journal, progress: Progress, *, domain: str = ""):
        """`domain`: whose patient IDs these are, where the headers do not say; 'medium:NAME' for those of another house."""
        self._domain = domain
        self._ingest, self._principal, self._journal, self._progress = ingest, principal, journal, progress
        self._summary = ImportSummary()

    async def run(self, paths: Iterable[Path]) -> ImportSummary:
        """Take everything under `paths`. Raises NoSpace or Unavailable when the archive can take no more."""
        turn = asyncio.Semaphore(CONCURRENT)
        try:
            async with asyncio.TaskGroup() as group:
                async for found in _each(self._walk(paths)):
                    if found.mark in self._journal:
                        self._summary.resumed += 1
                        self._progress(self._summary)
                        continue
                    await turn.acquire()
                    group.create_task(self._take(found, turn))
                self._ingest.push()
        except ExceptionGroup as group_of_failures:
            first = group_of_failures.exceptions[0]
            if isinstance(first, NoSpace | Unavailable):
                done = f"{self._summary.stored:,} files were stored before; the same command goes on after them"
                raise type(first)(f"{first}; {done}") from None
            raise
        return self._summary

    def _walk(self, paths: Iterable[Path]) -> Iterator[Found]:
        for path in paths:
            try:
                yield from self._open(path)
            except OSError as error:
                self._skip(str(path), error.strerror or "cannot be read")

    def _open(self, path: Path) -> Iterator[Found]:
        if path.is_symlink():
            self._skip(str(path), "a symbolic link; name its target instead")
        elif path.is_dir():
            for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
                try:
                    yield from self._open(Path(entry.path))
                except OSError as error:  # of one folder; the others go on
                    self._skip(entry.path, error.strerror or "cannot be read")
        elif not path.is_file():
            self._skip(str(path), "neither a file nor a folder" if path.exists() else "does not exist")
        elif not _is_dicom(path) and zipfile.is_zipfile(path):
            yield from self._zip(path)
        elif path.name.upper() == "DICOMDIR":
            yield from self._medium(path)
        else:
            yield _file(path, str(path))

    def _medium(self, path: Path) -> Iterator[Found]:
        """A DICOMDIR names the files of its medium; when its folder is imported anyway they come by that way too."""
        try:
            names = list(_referenced(path))
        except (Failure, OSError) as error:
            self._skip(str(path), f"the DICOMDIR cannot be read: {error}")
            return
        for name in names:
            target = _inside(path.parent, name)
            if target is None:
                self._skip("/".join(name), "the DICOMDIR names a file outside its medium, or one that is missing")
            else:
                yield _file(target, str(target))

    def _zip(self, path: Path) -> Iterator[Found]:
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            self._skip(str(path), f"a damaged ZIP archive: {error}")
            return
        members = archive.infolist()
        if len(members) > ZIP_MEMBERS or sum(member.file_size for member in members) > ZIP_BYTES:
            self._skip(str(path), f"the ZIP archive is too large (limits: {ZIP_MEMBERS} members, {ZIP_BYTES} bytes)")
            return
        for member in members:
            name = f"{path}!{member.filename}"
            if member.is_dir() or Path(member.filename).name.upper() == "DICOMDIR":
                continue
            if member.file_size > max(ZIP_FREE, member.compress_size * ZIP_RATIO):
                self._skip(name, f"packed more than 1:{ZIP_RATIO}, like a ZIP bomb")
            elif member.flag_bits & 1:
                self._skip(name, "protected by a password")
            else:
                mark = _mark(name, member.file_size, member.CRC)
                yield Found(name, member.file_size, mark, _member(archive, member))

    async def _take(self, found: Found, turn: asyncio.Semaphore) -> None:
        try:
            outcome = await self._send(found)
            if isinstance(outcome, str):
                self._skip(found.name, outcome)
            else:
                self._count(found, outcome)
                self._journal.add(found.mark)
        except (NoSpace, Unavailable):
            raise
        except (Failure, OSError, zipfile.BadZipFile, RuntimeError, EOFError) as error:
            self._skip(found.name, str(error) or type(error).__name__)
        finally:
            turn.release()
            self._progress(self._summary)

    async def _send(self, found: Found) -> Receipt | str:
        """The receipt, or why it was not taken."""
        intake = self._ingest.begin(self._principal, SOURCE, domain=self._domain)
        try:
            if found.size <= SMALL:
                return await (await intake.fill(lambda buffer: _read_whole(found, buffer), more=True))
            return await (await self._flow(found, intake))
        except _Foreign as foreign:
            return str(foreign)

    async def _flow(self, found: Found, intake: Intake) -> asyncio.Future[Receipt]:
        """A file larger than one buffer, a piece at a time."""
        with await asyncio.to_thread(found.open) as file:
            try:
                size, piece = 0, await asyncio.to_thread(file.read, PIECE)
                _refuse_foreign(piece)
                while piece:
                    size += len(piece)
                    if size > found.size:
                        raise LimitExceeded("it is longer than its directory entry says")
                    await intake.write(piece)
                    piece = b"" if size == found.size else await asyncio.to_thread(file.read, PIECE)
                return await intake.finish()
            except BaseException:
                await intake.abort()
                raise

    def _count(self, found: Found, receipt: Receipt) -> None:
        summary = self._summary
        summary.files += 1
        summary.bytes += found.size
        match receipt.outcome:
            case Outcome.STORED:
                summary.stored += 1
            case Outcome.DUPLICATE:
                summary.duplicates += 1
            case Outcome.VERSION:
                summary.versions += 1
            case Outcome.ENCODING:
                summary.encodings += 1
            case Outcome.QUARANTINED:
                summary.quarantined.append((found.name, receipt.reason, receipt.object_id.hex()))

    def _skip(self, name: str, reason: str) -> None:
        self._summary.files += 1
        self._summary.not_taken.append((name, reason))


class _Foreign(Exception):
    """The file is certainly no DICOM; the text says what it is."""


def _refuse_foreign(head: bytes) -> None:
    reason = _foreign(head)
    if reason:
        raise _Foreign(reason)


def _read_whole(found: Found, buffer: memoryview) -> int:
    """A small file into the buffer; how many bytes it has. Runs on a worker thread."""
    size = 0
    with found.open() as file:
        while size < len(buffer):
            piece = file.read(min(len(buffer) - size, PIECE))
            if not piece:
                break
            if not size:
                _refuse_foreign(piece)
            buffer[size : size + len(piece)] = piece
            size += len(piece)
            if size > found.size:
                raise LimitExceeded("it is longer than its directory entry says")
    if not size:
        raise _Foreign("empty")
    return size


def _foreign(head: bytes) -> str:
    """Why a file is certainly something else, or ''. In doubt it is taken: the quarantine loses nothing."""
    if not head:
        return "empty"
    if head[128:132] == b"DICM":
        return ""
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            return f"not DICOM: {what}"
    text = head[:4096]
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in text):
        return "not DICOM: a text"
    return ""


def _is_dicom(path: Path) -> bool:
    """A DICOM file may end like a ZIP archive; it is one image all the same."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _mark(name: str, size: int, when: int) -> bytes:
    return hashlib.blake2b(f"{name}\0{size}\0{when}".encode(errors="surrogateescape"), digest_size=16).digest()


def _file(path: Path, name: str) -> Found:
    stat = path.stat()

    def opened() -> BinaryIO:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb", buffering=0)  # type: ignore[return-value]

    return Found(name, stat.st_size, _mark(str(path.absolute()), stat.st_size, stat.st_mtime_ns), opened)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], BinaryIO]:
    return lambda: archive.open(member)  # type: ignore[return-value]


def _inside(root: Path, name: list[str]) -> Path | None:
    """The file a DICOMDIR means, only if it lies under the medium's root and no link leads there."""
    if not name or any(part in ("", ".", "..") or "/" in part or "\\" in part or "\0" in part for part in name):
        return None
    at = root
    for part in name:
        at = _entry(at, part)
        if at is None or at.is_symlink():
            return None
    return at if at.is_file() else None


def _entry(folder: Path, part: str) -> Path | None:
    """Media are written in capitals and often mounted in small letters."""
    for candidate in (part, part.lower()):
        if (folder / candidate).exists():
            return folder / candidate
    return None


def _referenced(path: Path) -> Iterator[list[str]]:
    """Referenced File IDs (0004,1500) of all directory records."""
    if path.stat().st_size > DIRECTORY_BYTES:
        raise LimitExceeded(f"a DICOMDIR may have {DIRECTORY_BYTES} bytes")
    data = path.read_bytes()
    try:
        found = scan(data)
    except Unparsable as reason:
        raise BadInput(str(reason)) from None
    layout = found.layout
    body = orjson.loads(to_json(data[layout.dataset_start : layout.dataset_end], found.actual_encoding, bulk_uri=str))
    for record in body.get("00041220", {}).get("Value", []):
        parts = record.get("00041500", {}).get("Value")
        if parts:
            yield [str(part).strip() for part in parts]


async def _each(found: Iterator[Found]) -> AsyncIterator[Found]:
    """Walk a slow medium without holding up the event loop."""
    while True:
        block = await asyncio.to_thread(_some, found)
        if not block:
            return
        for one in block:
            yield one


def _some(found: Iterator[Found], count: int = 64) -> list[Found]:
    block: list[Found] = []
    for one in found:
        block.append(one)
        if len(block) == count:
            break
    return block

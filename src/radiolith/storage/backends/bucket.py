"""One folder of an object store: the calls the log and the keyring need, with retries, as steps of the counter.

Owns: the translation of obstore's calls and errors. Must never: retry a conditional put whose name is taken, or wait
longer than its retries say. S3, and the in-memory store with S3's semantics, are the same here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from radiolith.model import Damaged, NotFound, Unavailable
from radiolith.storage.backends import Steps
from radiolith.storage.backends.layers import Retry, Transient
from radiolith.storage.format import Buffer

PART = 8 * 1024 * 1024  # bytes of one part of a multipart upload (S3 asks for 5 MiB)
_PARTS_AT_ONCE = 2  # in flight for one stream: bounds its memory to 24 MiB

_TAKEN = (AlreadyExistsError, PreconditionError)
_GONE = FileNotFoundError  # what obstore raises for an absent object
_HOPELESS = (PermissionDeniedError, UnauthenticatedError, PermissionError)


class PartWriter(Protocol):
    """A multipart upload. Nothing is visible before `close` returned."""

    def write(self, data: Buffer) -> None: ...

    def close(self) -> None: ...


class Bucket:
    def __init__(self, store: Any, prefix: str, *, steps: Steps | None = None, retry: Retry | None = None):
        self._store = store
        self._prefix = prefix.strip("/")
        self.steps = steps or Steps()
        self._retry = retry or Retry(sleep=time.sleep)

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def create(self, name: str, data: Buffer) -> bool:
        """Put an object that must not exist yet. False: it does, with other content.

        The answer to a put may be lost on its way and the put be found done when it is tried again: hence the look
        at the content. Content is random or sealed under random keys, so nobody else writes the same.
        """

        def put() -> bool:
            self.steps("put")
            try:
                self._store.put(self._path(name), data, mode="create", use_multipart=False)
                self.steps("put answered")
            except _TAKEN:
                return self.size(name) == len(data) and self.read(name, 0, len(data)) == bytes(data)
            return True

        return self._call(put, "writing")

    def replace(self, name: str, data: Buffer) -> None:
        def put() -> None:
            self.steps("put")
            self._store.put(self._path(name), data, use_multipart=False)

        self._call(put, "writing")

    def read(self, name: str, offset: int, length: int) -> bytes:
        into = bytearray(length)
        self.read_into(name, offset, memoryview(into))
        return bytes(into)

    def read_into(self, name: str, offset: int, into: memoryview) -> None:
        """Raises Damaged when the object ends earlier."""
        if not len(into):
            return

        def get() -> None:
            try:
                data = memoryview(self._store.get_range(self._path(name), start=offset, end=offset + len(into)))
            except GenericError:
                if self.size(name) < offset + len(into):
                    raise Damaged("An object ends before what it should hold") from None
                raise
            if len(data) != len(into):
                if self.size(name) < offset + len(into):
                    raise Damaged("An object ends before what it should hold")
                raise GenericError("the answer was cut short")
            into[:] = data

        self._call(get, "reading")

    def size(self, name: str) -> int:
        return self._call(lambda: self._store.head(self._path(name))["size"], "reading")

    def list(self, after: str = "") -> Iterator[tuple[str, int, int]]:
        """(name, bytes, modified in microseconds) of every object behind `after`, in the store's order."""
        strip = len(self._prefix) + 1 if self._prefix else 0
        offset = self._path(after) if after else None

        def page(pages: Iterator[Any]) -> Any:
            return self._call(lambda: next(pages, None), "listing", tries=1)

        pages = self._call(
            lambda: iter(self._store.list(self._prefix or None, offset=offset, chunk_size=1000)), "listing"
        )
        while (found := page(pages)) is not None:
            for meta in found:
                yield meta["path"][strip:], meta["size"], int(meta["last_modified"].timestamp() * 1_000_000)

    def delete(self, name: str) -> None:
        def delete() -> None:
            self.steps("delete")
            try:
                self._store.delete(self._path(name))
            except _GONE:
                pass

        self._call(delete, "deleting")

    def writer(self, name: str) -> PartWriter:
        return _Upload(self, name)

    def open_writer(self, name: str) -> Any:
        return obstore.open_writer(self._store, self._path(name), buffer_size=PART, max_concurrency=_PARTS_AT_ONCE)

    def _call(self, action: Callable[[], Any], doing: str, tries: int = 0) -> Any:
        return self._retry(lambda: _translated(action), doing, tries)


class _Upload:
    def __init__(self, bucket: Bucket, name: str):
        self._bucket = bucket
        self._name = name
        self._writer = bucket.open_writer(name)
        self._size = 0

    def write(self, data: Buffer) -> None:
        def write() -> None:
            self._bucket.steps("part")
            self._writer.write(bytes(data))

        Retry(tries=1)(lambda: _translated(write), "writing")
        self._size += len(data)

    def close(self) -> None:
        def close() -> None:
            self._bucket.steps("complete")
            self._writer.close()

        Retry(tries=1)(lambda: _translated(close), "writing")
        if self._bucket.size(self._name) != self._size:
            raise Unavailable("The object store kept another length than was sent")


def _translated(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except _GONE:
        raise NotFound("No such object") from None
    except _HOPELESS as error:
        raise Unavailable("The object store refuses our credentials") from error
    except (BaseError, OSError) as error:
        raise Transient(str(error).partition("\n")[0][:200]) from error

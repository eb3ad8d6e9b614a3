"""The key hierarchy: root key -> tenant key -> scope key -> object key.

Owns: what stands in the keyring's payloads (docs/format/keyring.md, "payloads"), wrapping, and the choice of a scope
for an object. Must never: write a file itself, or put anything derived from a UID outside an encrypted label.
Limits: one process remembers at most LABELS labels and OPENED unwrapped keys; older ones are read again on demand. A
label forgotten before its study was committed may get a second scope key: harmless, each object names its own scope, and
an erasure looks for every scope of a label.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from radiolith.model import BadInput, Blob, Damaged, NotFound, Scope, Unavailable
from radiolith.storage.backends.local import LocalDisk
from radiolith.storage.keyring import Entry, Keyring

LABELS = 100_000  # remembered labels, about 200 bytes each
OPENED = 4_096  # unwrapped scope keys kept, 32 bytes each
STUDY, NONPATIENT, QUARANTINE, FACTS = "study", "nonpatient", "quarantine", "facts"
Label = tuple[bytes, str, str]  # tenant uid, kind, study UID or ''


def root_check(root: bytes) -> str:
    """Key check value: tells a wrong root key from a damaged keyring, and gives nothing away."""
    return hmac.new(root, b"radiolith root check", hashlib.sha256).digest()[:16].hex()


class Keys:
    """All keys of one process. Thread-safe."""

    def __init__(self, root: bytes, keyring: Keyring, random: Callable[[int], bytes] = os.urandom):
        self._root, self._keyring, self._random = root, keyring, random
        self._lock = threading.RLock()
        self._tenants: dict[bytes, bytes] = {}  # tenant uid -> tenant key
        self._labels: OrderedDict[Label, Scope] = OrderedDict()
        self._opened: OrderedDict[bytes, bytes] = OrderedDict()  # scope id -> scope key

    # ------------------------------------------------------------ start

    def create(self) -> None:
        """Write the root check value into an empty keyring."""
        self._keyring.append(lambda seen: [] if seen else [_json({"t": "root", "check": root_check(self._root)})])

    def load(self) -> int:
        """Read the whole keyring once: prove the root key, open every label. Returns the number of entries.

        Raises Damaged when the root key does not fit or an entry does not open.
        """
        count = 0
        for entry in self._keyring.entries():
            count += 1
            self._absorb(entry)
        return count

    def follow_from(self, position: int) -> None:
        """Start to remember labels from here on: earlier entries are named by committed rows. Proves the root key."""
        for entry in self._keyring.entries():
            self._absorb(entry)
            break
        self._keyring.seen = max(self._keyring.seen, position)

    def _absorb(self, entry: Entry) -> None:
        body = json.loads(entry.payload)
        match body["t"]:
            case "root":
                if not hmac.compare_digest(body["check"], root_check(self._root)):
                    raise Damaged("the root key does not belong to this keyring; use the one from the recovery file")
            case "tenant":
                self._tenants[bytes.fromhex(body["id"])] = _unwrap(self._root, bytes.fromhex(body["k"]), "tenant key")
            case "scope":
                self._absorb_scope(entry)
            case other:
                raise Damaged(f"keyring entry {entry.position} is of unknown type '{other}'; a newer version wrote it")

    def _label(self, body: dict[str, str]) -> Label:
        tenant = bytes.fromhex(body["tenant"])
        sealed = bytes.fromhex(body["label"])
        cipher = AESGCM(_label_key(self._tenant_key(tenant)))
        try:
            label = cipher.decrypt(sealed[:12], sealed[12:], bytes.fromhex(body["id"]))
        except InvalidTag:
            raise Damaged("a keyring label does not open; the entry was altered") from None
        return tenant, body["kind"], label.decode()

    def _remember(self, label: Label, scope: Scope) -> None:
        self._labels.setdefault(label, scope)  # the first in the log wins; a loser adopts its key
        while len(self._labels) > LABELS:
            self._labels.popitem(last=False)

    # ------------------------------------------------------------ tenants

    def create_tenant(self, tenant: bytes) -> None:
        """Durable on return; idempotent."""

        def propose(seen: Sequence[Entry]) -> list[bytes]:
            for entry in seen:
                self._absorb(entry)
            if tenant in self._tenants:
                return []
            key = self._random(32)
            return [_json({"t": "tenant", "id": tenant.hex(), "k": aes_key_wrap(self._root, key).hex()})]

        with self._lock:
            for entry in self._keyring.append(propose):
                self._absorb(entry)

    def _tenant_key(self, tenant: bytes) -> bytes:
        try:
            return self._tenants[tenant]
        except KeyError:
            pass
        # Made by another process, or before the position we follow from. One by one, because this is also called while an
        # append holds the keyring's lock, which `entries` would wait for.
        for position in itertools.count():
            try:
                entry = self._keyring.read(position)
            except Damaged:
                continue
            except NotFound:
                break
            if json.loads(entry.payload)["t"] == "tenant":
                self._absorb(entry)
                if tenant in self._tenants:
                    break
        try:
            return self._tenants[tenant]
        except KeyError:
            raise Unavailable("the keyring has no key for this tenant: put back a place of it from a backup") from None

    # ------------------------------------------------------------ scopes

    def scopes(self, labels: Iterable[Label]) -> dict[Label, Scope]:
        """The scope of each label, created if absent: durable in every place of the keyring on return."""
        asked = {label: _short(label) for label in labels}
        wanted = list(dict.fromkeys(asked.values()))
        with self._lock:
            found = {label: self._labels[label] for label in wanted if label in self._labels}
            missing = [label for label in wanted if label not in found]
            if missing:
                made = self._keyring.append(lambda seen: self._propose(seen, missing, found))
                for entry in made:
                    label, scope = self._absorb_scope(entry)
                    found.setdefault(label, scope)
        return {label: found[short] for label, short in asked.items()}

    def _propose(self, seen: Sequence[Entry], missing: Sequence[Label], found: dict[Label, Scope]) -> list[bytes]:
        """What to append, given what others appended since we last looked; their scopes are adopted."""
        for entry in seen:
            body = json.loads(entry.payload)
            if body["t"] == "scope":
                label, scope = self._absorb_scope(entry)
                if label in missing:
                    found.setdefault(label, scope)
            else:
                self._absorb(entry)
        return [self._scope_entry(label) for label in missing if label not in found]

    def _absorb_scope(self, entry: Entry) -> tuple[Label, Scope]:
        body = json.loads(entry.payload)
        label, scope = self._label(body), Scope(bytes.fromhex(body["id"]), entry.position)
        self._remember(label, scope)
        return label, scope

    def _scope_entry(self, label: Label) -> bytes:
        tenant, kind, text = label
        key, scope, nonce = self._random(32), self._random(16), self._random(12)
        tenant_key = self._tenant_key(tenant)
        sealed = nonce + AESGCM(_label_key(tenant_key)).encrypt(nonce, text.encode(), scope)
        return _json(
            {
                "t": "scope",
                "id": scope.hex(),
                "tenant": tenant.hex(),
                "kind": kind,
                "k": aes_key_wrap(tenant_key, key).hex(),
                "label": sealed.hex(),
            }
        )

    def scope_key(self, tenant: bytes, scope: Scope) -> bytes:
        """The unwrapped key of a scope. Raises Unavailable when the keyring lacks it, Damaged when it does not open."""
        with self._lock:
            key = self._opened.get(scope.id)
            if key is not None:
                self._opened.move_to_end(scope.id)
                return key
            body = self._scope_body(scope)
            if bytes.fromhex(body["tenant"]) != tenant:
                raise Damaged("a scope belongs to another tenant")
            key = _unwrap(self._tenant_key(tenant), bytes.fromhex(body["k"]), "scope key")
            self._opened[scope.id] = key
            if len(self._opened) > OPENED:
                self._opened.popitem(last=False)
            return key

    def _scope_body(self, scope: Scope) -> dict[str, str]:
        try:
            body = json.loads(self._keyring.read(scope.position).payload)
            if body.get("id") == scope.id.hex():
                return body
        except (NotFound, Damaged):
            pass
        for entry in self._keyring.entries():  # the position is a hint: a rewritten keyring has moved the entry
            body = json.loads(entry.payload)
            if body["t"] == "scope" and body["id"] == scope.id.hex():
                return body
        raise Unavailable("the keyring lacks the key of this object: put back a place of it from a backup")

    def every_scope(self) -> Iterable[tuple[Label, Scope]]:
        """All scopes in the order of the keyring, for a rebuild. Streams."""
        for entry in self._keyring.entries():
            body = json.loads(entry.payload)
            if body["t"] == "scope":
                yield self._label(body), Scope(bytes.fromhex(body["id"]), entry.position)

    # ------------------------------------------------------------ objects

    def wrap(self, tenant: bytes, scope: Scope, object_key: bytes) -> bytes:
        return aes_key_wrap(self.scope_key(tenant, scope), object_key)

    def object_key(self, blob: Blob) -> bytes:
        return self.unwrap(blob.tenant, blob.scope, blob.wrapped_key)

    def unwrap(self, tenant: bytes, scope: Scope, wrapped: bytes) -> bytes:
        return _unwrap(self.scope_key(tenant, scope), wrapped, "object key")


def _short(label: Label) -> Label:
    """Some files have a Study Instance UID that is none; an entry has room for the 64 characters of a real one."""
    tenant, kind, text = label
    if len(text.encode()) <= 64:
        return label
    return tenant, kind, "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:56]


def _json(body: dict[str, str]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode("ascii")


def _label_key(tenant_key: bytes) -> bytes:
    return HKDF(SHA256(), 32, None, b"radiolith keyring label").derive(tenant_key)


def _unwrap(outer: bytes, wrapped: bytes, what: str) -> bytes:
    try:
        return aes_key_unwrap(outer, wrapped)
    except (InvalidUnwrap, ValueError):
        raise Damaged(f"a {what} does not open: the keyring or the record was altered") from None


# ---------------------------------------------------------------- the root key's file and the recovery file


def write_root_key(path: Path, key: bytes) -> None:
    """0600, created exclusively, synced with its directory before anything is encrypted under it."""
    disk = LocalDisk(str(path.parent))
    file = disk.create(path.name)
    file.write([base64.b32encode(key) + b"\n"], 0)
    file.sync()
    file.close()
    disk.sync_directory("")


def read_root_key(path: Path) -> bytes:
    """Raises NotFound with what to do, BadInput when the file is not a key."""
    try:
        text = path.read_text("ascii")
    except UnicodeDecodeError:
        raise BadInput(f"{path} is no root key; the recovery file has it") from None
    except FileNotFoundError:
        raise NotFound(f"no root key at {path}: put it back from the recovery file") from None
    return parse_root_key(text)


def recovery_text(key: bytes) -> str:
    """What the recovery file says: enough to read every object back with tools/read_segment.py and no server."""
    words = base64.b32encode(key).decode().rstrip("=")
    groups = " ".join(words[i : i + 4] for i in range(0, len(words), 4))
    return (
        "Radiolith recovery file\n\n"
        "Whoever holds this text and a copy of segments and keyring can read every image; without it a lost server\n"
        "means lost images. Print it or keep it in a safe, away from the archive, then confirm that with\n"
        "`radiolith status --home DIR --confirm-recovery-saved`.\n\n"
        f"root-key: {groups}\n"
        f"checksum: {hashlib.sha256(key).hexdigest()[:8]}\n"
    )


def parse_root_key(text: str) -> bytes:
    """From the root key's file or from a recovery file. Raises BadInput when it is neither, or mistyped."""
    lines = dict(line.split(":", 1) for line in text.splitlines() if line.count(":") == 1)
    words = lines.get("root-key", text).replace(" ", "").strip().upper()
    try:
        key = base64.b32decode(words + "=" * (-len(words.rstrip("=")) % 8 if "=" not in words else 0))
    except ValueError:
        raise BadInput("this is not a root key or recovery file") from None
    if len(key) != 32:
        raise BadInput(f"a root key has 32 bytes, this one {len(key)}")
    if "checksum" in lines and lines["checksum"].strip() != hashlib.sha256(key).hexdigest()[:8]:
        raise BadInput("the recovery file's checksum does not fit its key: look for a mistyped letter")
    return key

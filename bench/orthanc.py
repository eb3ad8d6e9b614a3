"""Orthanc as Debian packages it, set up to be fast: the server the figures are ratios against.

`TCP_NODELAY=1` is in its environment, without which its replies wait 40 ms for a delayed acknowledgement, and it serves
as many associations at a time as the rows need. Everything else is its default: SQLite index, one sync per stored file,
PDUs of 16 KiB, no authentication asked of loopback clients. It binds all interfaces; its HTTP server refuses every
client but local ones, its DICOM server every one but the benchmark's.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from client import Address
from dimse import CLIENT_AET
from postgresql import PostgreSQL
from server import Server, ServerFailed, sqlite_bytes

PLUGINS = Path("/usr/share/orthanc/plugins")
DICOMWEB = "libOrthancDicomWeb.so"
POSTGRESQL = "libOrthancPostgreSQLIndex.so"
DICOM_THREADS = 128  # associations it serves at a time; with its default of 4, four more wait until four have ended


def executable() -> str | None:
    return shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")


def missing(postgresql: bool = False) -> str:
    """Why it cannot be measured here; empty when it can."""
    if executable() is None or not (PLUGINS / DICOMWEB).exists():
        return "Debian's packages orthanc and orthanc-dicomweb are not installed"
    if postgresql and not (PLUGINS / POSTGRESQL).exists():
        return "Debian's package orthanc-postgresql is not installed"
    return ""


class Orthanc(Server):
    name = "orthanc"
    ready_path = "/system"
    aet = "ORTHANC"

    def configuration(self) -> dict[str, object]:
        return {
            "Name": "bench",
            "StorageDirectory": str(self.work / "store"),
            "IndexDirectory": str(self.work / "index"),
            "Plugins": [str(PLUGINS / DICOMWEB)],
            "HttpPort": self.port,
            "DicomAet": self.aet,
            "DicomPort": self.dimse_port,
            "DicomModalities": {"bench": {"AET": CLIENT_AET, "Host": "127.0.0.1", "Port": self.node().sink_port}},
            "DicomAlwaysAllowEcho": False,
            "DicomAlwaysAllowStore": False,
            "DicomCheckModalityHost": True,
            "DicomThreadsCount": DICOM_THREADS,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }

    def prepare(self) -> None:
        (self.work / "orthanc.json").write_text(json.dumps(self.configuration(), indent=1), "utf-8")

    def command(self) -> list[str]:
        found = executable()
        if found is None:
            raise ServerFailed(missing())
        return [found, str(self.work / "orthanc.json")]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "TCP_NODELAY": "1"}

    def address(self) -> Address:
        return Address(self.port)

    def index_bytes(self) -> int:
        return sqlite_bytes(self.work / "index" / "index")


class OrthancPostgreSQL(Orthanc):
    """The index on PostgreSQL: durable when it answers, as Radiolith always is."""

    name = "orthanc-postgresql"

    def __init__(self, work: Path):
        super().__init__(work)
        self.database = PostgreSQL(self.work / "postgresql")
        self.services = [self.database]

    def configuration(self) -> dict[str, object]:
        chosen = super().configuration()
        chosen["Plugins"] = [str(PLUGINS / DICOMWEB), str(PLUGINS / POSTGRESQL)]
        chosen["PostgreSQL"] = {
            "EnableIndex": True,
            "EnableStorage": False,
            "Host": "127.0.0.1",
            "Port": self.database.port,
            "Database": "postgres",
            "Username": self.database.user,
            "Password": self.database.password,
        }
        return chosen

    def index_bytes(self) -> int:
        return self.database.size()

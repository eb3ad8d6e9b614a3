"""The DICOM Conformance Statement in the layout of PS3.2 annex N (Supplement 209).

Owns: the order of the sections and their words. Must never: list what is supported: that comes from `declared`.
"""

from __future__ import annotations

from radiolith import __version__
from radiolith.archive import media
from radiolith.conformance import network, security, services, web
from radiolith.conformance.declared import Declared
from radiolith.conformance.document import Section, Table
from radiolith.dicom import charset

REFRESH = "`radiolith conformance`"
_CONTENTS = "Table of contents"


def statement(declared: Declared) -> Section:
    """The whole document."""
    title = f"DICOM Conformance Statement of Radiolith {__version__}"
    sections = (
        _overview(declared),
        _introduction(),
        _model(declared),
        _interoperability(declared),
        network.configuration(declared),
        network.details(declared),
        security.section(declared),
        *_annexes(),
    )
    words = (
        f"Written by {REFRESH} from the tables the program runs on; with `--home` for the settings of one archive. The"
        " order of sections is that of PS3.2 annex N. The program is not a medical device.",
    )
    first, *rest = sections
    contents = [f"{place}. {each.title}" for place, each in enumerate((first, Section(_CONTENTS), *rest), 1)]
    return Section(title, words, (first, Section(_CONTENTS, (" · ".join(contents),)), *rest))


def _overview(declared: Declared) -> Section:
    words = (
        "Radiolith keeps medical images. It receives, finds, gives back and sends DICOM objects over DIMSE and DICOMweb."
        " It creates no images; objects leave it as they came in, unless a receiver needs another transfer syntax.",
    )
    profiles = Section("De-identification profiles", ("None of PS3.15 annex E is applied.",))
    return Section(
        "Overview",
        words,
        (
            network.content(declared),
            services.overview(declared),
            web.overview(declared),
            _media_overview(),
            Section("Real-Time Video services", ("None.",)),
            profiles,
            Section("Specific Character Sets", (f"{len(charset.known())} defined terms; see 5.7.",)),
        ),
    )


def _media_overview() -> Section:
    table = Table.of(
        "Media services",
        ("role", "supported", "with"),
        [
            ("File-set Reader", "Y", "folders, files, ZIP archives; a DICOMDIR is not needed and not trusted"),
            ("File-set Creator", "N", "files are written without a DICOMDIR"),
            ("File-set Updater", "N", ""),
        ],
    )
    return Section("Media services", (table,))


def _introduction() -> Section:
    terms = (
        "Terms and abbreviations are those of PS3.1 to PS3.20. *Version*: another content under one SOP Instance UID."
        " *Quarantine*: where bytes are kept that cannot be read or have no identity."
    )
    return Section(
        "Introduction",
        (),
        (
            Section("Revision history", (f"Version {__version__}; the changes are in CHANGELOG.md.",)),
            Section("Audience", ("Whoever connects a device or a system to the archive.",)),
            Section("Remarks", (
                "That two statements match does not prove that two products work together: try it, and look at"
                " `radiolith associations` when it does not.",
            )),
            Section("Terms, definitions, abbreviations", (terms,)),
            Section("References", ("DICOM PS3 (NEMA), IHE Radiology Technical Framework.",)),
        ),
    )  # fmt: skip


def _model(declared: Declared) -> Section:
    dimse = declared.settings.dimse
    titles = ", ".join(f"`{title}`" for title in (dimse.aet, *(each.partition("=")[0] for each in dimse.titles)))
    served = ", ".join(request for request in declared.all_requests() if declared.classes(request))
    asked = ", ".join(request for request in declared.all_requests() if declared.asked(request)) or "nothing"
    flow = Table.of(
        "Application entities",
        ("AE", "titles", "real-world activities"),
        [
            ("ARCHIVE", titles, f"answers {served}; asks others for {asked}"),
            ("DICOMweb origin server", "", "store, search, retrieve, render, commit over HTTP"),
            ("Media importer", "", "reads media that somebody inserts"),
        ],
    )
    order = (
        "An object is acknowledged when it is durable and indexed; whoever asks after the answer, by any door, finds it."
        " There is no order between associations."
    )
    return Section(
        "Implementation model",
        (),
        (
            Section("Application entities and data flow", (flow,)),
            Section("Sequencing of real-world activities", (order,)),
        ),
    )


def _interoperability(declared: Declared) -> Section:
    limits = Table.of(
        "Limits of an import",
        ("limit", "value"),
        [
            ("members of a ZIP archive", f"{media.ZIP_MEMBERS:,}"),
            ("bytes of a ZIP archive, inflated", f"{media.ZIP_BYTES:,}"),
            (f"inflated to packed, of members above {media.ZIP_FREE:,} bytes", f"{media.ZIP_RATIO}"),
            ("bytes of a DICOMDIR", f"{media.DIRECTORY_BYTES:,}"),
        ],
    )
    imported = (
        "`radiolith import` reads Part 10 files (and data sets without file meta information) below a folder or in a ZIP"
        " archive, on whatever medium the system can mount, and follows nothing out of it. `radiolith export` and"
        " `Accept: application/zip` write Part 10 files, the first also exactly as they were received."
    )
    sets = Table.of("Defined terms of Specific Character Set (0008,0005)", ("term",), [(t,) for t in charset.known()])
    characters = (
        "All of them are read, with code extensions, one after the other in one value. Answers to a query are in the"
        " character set of the query where it holds all of the text, else in ISO_IR 192; DICOMweb answers in UTF-8. Bytes"
        " that fit no character set are shown as U+FFFD; the stored ones stay."
    )
    return Section(
        "Service and interoperability description",
        (),
        (
            services.mapping(declared),
            services.described(declared),
            web.described(declared),
            Section("Media services", (imported, limits)),
            Section("Real-Time Video services", ("None.",)),
            Section(
                "Cross-service considerations",
                (
                    "All doors lead to the same verbs: what was stored by one is found and given back by every other, the same"
                    " query has the same answer by C-FIND and QIDO-RS, and roles hold everywhere.",
                ),
            ),
            Section("Specific Character Sets", (characters, sets)),
        ),
    )


def _annexes() -> tuple[Section, ...]:
    return (
        Section("Annex: Information Object Definitions", (
            "No objects of its own are created. Objects are kept whole, private attributes included, in every SOP class of"
            " 1.2.",
        )),
        Section("Annex: Structured Report content encoding", ("None is created.",)),
        Section("Annex: mapping of attributes", (
            "None is changed: neither on arrival nor on the way out, but for what a transcoding requires (PS3.5 8.2).",
        )),
        Section("Annex: code sets", ("CID 7011 (rejection of objects, IHE IOCM).",)),
    )  # fmt: skip

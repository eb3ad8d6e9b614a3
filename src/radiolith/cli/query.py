"""`radiolith echo` and `radiolith find`: is a DICOM node there, and what has it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiolith.cli import calling, console, options
from radiolith.model import BadInput

if TYPE_CHECKING:
    from radiolith.dimse.asking import Path

LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE")
SHOWN = {
    "PATIENT": ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    "STUDY": (
        "PatientName", "PatientID", "StudyDate", "AccessionNumber", "ModalitiesInStudy", "StudyDescription",
        "NumberOfStudyRelatedInstances", "StudyInstanceUID",
    ),
    "SERIES": ("Modality", "SeriesNumber", "SeriesDescription", "NumberOfSeriesRelatedInstances", "SeriesInstanceUID"),
    "IMAGE": ("InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
}  # fmt: skip
"""What is asked for and shown at a level when no key is named."""


def _level(text: str) -> str:
    found = {"INSTANCE": "IMAGE"}.get(text.upper(), text.upper())
    if found not in LEVELS:
        raise typer.BadParameter(f"there is no level '{text}'; there are: {', '.join(LEVELS)}")
    return found


def echo(
    target: calling.To,
    home: options.Home,
    aet: calling.As = None,
    as_json: options.AsJson = False,
) -> None:
    """Ask a DICOM node whether it is there (C-ECHO)."""
    from radiolith.dimse import asking
    from radiolith.dimse.scu import connect
    from radiolith.home import open_home

    with open_home(home) as opened:
        whom, who = calling.called(opened, target), calling.title(opened, aet)

        async def work() -> float:
            begun = time.perf_counter()
            async with connect(whom, asking.for_echo(), who) as association:
                await asking.echo(association)
            return time.perf_counter() - begun

        seconds = opened.run(work())
    if as_json:
        console.give_json({"target": str(whom), "seconds": seconds})
    else:
        console.say(f"{whom} answers: {1000 * seconds:.1f} ms for connection, association, echo and release")


def find(
    target: calling.To,
    home: options.Home,
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY[=VALUE]...]", help="Keywords or tags: PatientID=4711, StudyDate=20250101-, PatientSex"
        ),
    ] = None,
    level: Annotated[str, typer.Option(callback=_level, help="PATIENT, STUDY, SERIES or IMAGE.")] = "STUDY",
    limit: Annotated[int, typer.Option(min=1, help="Matches after which the search is cancelled.")] = 1000,
    aet: calling.As = None,
    as_json: options.AsJson = False,
) -> None:
    """Ask a DICOM node what it has (C-FIND)."""
    from radiolith.dimse.sopclasses import PATIENT_ROOT, STUDY_ROOT
    from radiolith.home import open_home

    model = PATIENT_ROOT if level == "PATIENT" else STUDY_ROOT
    wanted = _wanted(level, keys or [])
    with open_home(home) as opened, console.progress(f"Asking {target}", "matches") as report:
        whom, who = calling.called(opened, target), calling.title(opened, aet)
        found = opened.run(_found(whom, who, model.find, (level, wanted), (limit, report)))
    if as_json:
        console.give_json(found)
        return
    columns = [path for path in wanted if path[0] != _LEVEL]
    console.give_table([_heading(path) for path in columns], [_row(match, columns) for match in found], "No matches.")
    if len(found) == limit:
        console.complain(f"Only the first {limit:,}; there may be more (--limit).")


_LEVEL = 0x00080052


def _wanted(level: str, keys: list[str]) -> dict[Path, str]:
    """Attribute path -> value to match ('' is any), in the order given."""
    from radiolith.dimse.asking import path_of

    given = [word.partition("=") for word in keys]
    wanted = {path_of(keyword): value for keyword, _, value in given}
    if not any(not value for value in wanted.values()):  # only what to match: show the usual beside it
        wanted |= {path_of(keyword): "" for keyword in SHOWN[level] if path_of(keyword) not in wanted}
    return wanted


async def _found(
    whom: Any, who: str, sop_class: str, asked: tuple[str, Mapping[Path, str]], until: tuple[int, console.Report]
) -> list[dict[str, Any]]:
    """DICOM JSON of each match."""
    from contextlib import aclosing

    import orjson

    from radiolith.dicom.json import to_json
    from radiolith.dicom.limits import Unparsable
    from radiolith.dimse import asking
    from radiolith.dimse.scu import connect

    level, keys = asked
    limit, report = until
    found: list[dict[str, Any]] = []
    async with connect(whom, asking.for_query(sop_class), who) as association:
        syntax = association.context(sop_class).transfer_syntax
        matches = asking.find(association, sop_class, lambda syntax: asking.identifier(level, keys, syntax))
        async with aclosing(matches) as answers:
            async for _, identifier in answers:
                try:
                    found.append(orjson.loads(to_json(identifier, syntax, bulk_uri=str)))
                except Unparsable as problem:
                    raise BadInput(f"{whom} sent a match that cannot be read: {problem}") from problem
                report(len(found), None, "")
                if len(found) == limit:
                    break
    return found


def _heading(path: Path) -> str:
    from radiolith.dicom import dictionary

    return ".".join(dictionary.keyword(tag) or f"{tag:08X}" for tag in path)


def _row(match: Mapping[str, Any], columns: list[Path]) -> list[str]:
    return [_cell(match, path) for path in columns]


def _cell(item: Mapping[str, Any], path: Path) -> str:
    """The values of an attribute as a person reads them; of all items where it is in a sequence."""
    values: list[Any] = item.get(f"{path[0]:08X}", {}).get("Value", [])
    if len(path) > 1:
        return ", ".join(text for inner in values if (text := _cell(inner, path[1:])))
    return ", ".join(_text(value) for value in values if value is not None)


def _text(value: Any) -> str:
    if isinstance(value, dict):  # a person's name, or an item of a sequence
        groups: dict[str, Any] = value
        return str(next((groups[name] for name in ("Alphabetic", "Ideographic", "Phonetic") if name in groups), "…"))
    return str(value)

"""`radiolith conformance`: the DICOM Conformance Statement and the IHE Integration Statement."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from radiolith.cli import console


class Format(StrEnum):
    TEXT = "text"
    HTML = "html"
    JSON = "json"


def conformance(
    home: Annotated[
        Path | None,
        typer.Option(
            "--home", metavar="DIR", file_okay=False, help="With the settings of this home, not the defaults."
        ),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="Text is Markdown.")] = Format.TEXT,
    integration: Annotated[
        bool, typer.Option("--integration-statement", help="The IHE Integration Statement instead.")
    ] = False,
) -> None:
    """What is spoken: the DICOM Conformance Statement (PS3.2), from the tables the program runs on."""
    from radiolith import config
    from radiolith.conformance.declared import declared
    from radiolith.conformance.document import markdown, page, plain
    from radiolith.conformance.ihe import integration_statement
    from radiolith.conformance.statement import statement

    found = declared(config.load(home) if home is not None else None)
    document = integration_statement(found) if integration else statement(found)
    if form is Format.JSON:
        console.give_json(plain(document))
    else:
        console.out.file.write(page(document) if form is Format.HTML else markdown(document))

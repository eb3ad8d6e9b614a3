"""`radiolith`: the table of commands, and the one place where a failure becomes a sentence and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from radiolith import __version__
from radiolith.cli import (
    amend,
    associations,
    changes,
    check,
    conformance,
    console,
    demo,
    desk,
    devices,
    export,
    history,
    init,
    label,
    logs,
    note,
    outbox,
    patients,
    peer,
    quarantine,
    query,
    retrieval,
    route,
    send,
    serve,
    status,
    token,
    user,
    webhook,
)
from radiolith.cli import import_ as import_command
from radiolith.model import Failure

app = typer.Typer(
    name="radiolith",
    help="Keeps medical images: receives, finds, shows and sends DICOM, and keeps it safe.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("serve")(serve.serve)
app.command("import")(import_command.import_)
app.command("export")(export.export)
app.command("check")(check.check)
app.command("status")(status.status)
app.command("conformance")(conformance.conformance)
app.add_typer(associations.app, name="associations")
app.command("echo")(query.echo)
app.command("find")(query.find)
app.command("get")(retrieval.get)
app.command("move")(retrieval.move)
app.command("send")(send.send)
app.add_typer(outbox.app, name="outbox")
app.add_typer(route.app, name="route")
app.command("devices")(devices.devices)
app.command("changes")(changes.changes)
app.add_typer(webhook.app, name="webhook")
app.add_typer(peer.app, name="peer")
app.add_typer(token.app, name="token")
app.add_typer(user.app, name="user")
app.add_typer(label.app, name="label")
app.add_typer(note.app, name="note")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(amend.app, name="amend")
app.add_typer(history.app, name="history")
app.add_typer(patients.app, name="patients")
app.add_typer(desk.app, name="desk")


def _version(wanted: bool) -> None:
    if wanted:
        console.give(f"radiolith {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Keeps medical images: receives, finds, shows and sends DICOM, and keeps it safe."""
    logs.begin("warning")


def main() -> None:
    """The entry point: exit code 0 done, 1 the work failed (said why), 2 wrong usage."""
    try:
        app()
    except Failure as failure:
        console.complain(f"radiolith: {failure}")
        sys.exit(console.FAILED)
    except KeyboardInterrupt:
        console.complain("radiolith: stopped")
        sys.exit(console.FAILED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(console.FAILED)
    except OSError as error:
        console.complain(f"radiolith: {error.filename or 'the system'}: {error.strerror or error}")
        sys.exit(console.FAILED)

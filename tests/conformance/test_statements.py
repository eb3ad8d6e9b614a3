"""The statements say what the tables say: no more, no less, and the committed copies are up to date."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from radiolith import config
from radiolith.cli.main import app
from radiolith.conformance import ihe, services
from radiolith.conformance.declared import STORE, Declared, declared, defaults
from radiolith.conformance.document import Section, Table, markdown, numbered, page, plain
from radiolith.conformance.ihe import integration_statement
from radiolith.conformance.statement import statement
from radiolith.dimse import services as served
from radiolith.dimse import sopclasses
from radiolith.index.attributes import ATTRIBUTES, Matching

CT = "1.2.840.10008.5.1.4.1.1.2"
REFRESH = "the tables have changed: run `make conformance` and look at what it says now"


@pytest.fixture(scope="module")
def now() -> Declared:
    return declared()


def cells(document: Section) -> set[str]:
    """Every cell of every table."""
    return {
        cell
        for _, section in numbered(document)
        for block in section.blocks
        if isinstance(block, Table)
        for row in block.rows
        for cell in row
    }


def test_the_committed_statement_is_that_of_the_code(project: Path, now: Declared) -> None:
    assert (project / "docs" / "conformance.md").read_text("utf-8") == markdown(statement(now)), REFRESH


def test_the_committed_integration_statement_is_that_of_the_code(project: Path, now: Declared) -> None:
    written = (project / "docs" / "integration-statement.md").read_text("utf-8")
    assert written == markdown(integration_statement(now)), REFRESH


def test_everything_that_is_accepted_or_proposed_is_named(now: Declared) -> None:
    found = cells(statement(now))
    wanted = set(now.offer.accepts) | {uid for _, uid in now.proposed}
    wanted |= {
        uid for accepts in now.offer.accepts.values() for uid in accepts.transfer_syntaxes if uid in sopclasses.KEPT
    }
    assert len(wanted) > 250
    names = found | {name for cell in found for name in cell.split(", ")}
    assert not [uid for uid in wanted if uid not in names]
    assert {attribute.vr for attribute in ATTRIBUTES} <= found
    assert {f"`{each['method']} {each['path']}`" for each in now.resources} <= found


def test_what_leaves_the_tables_leaves_the_statement(monkeypatch: pytest.MonkeyPatch, now: Declared) -> None:
    assert CT in markdown(statement(now))
    monkeypatch.setattr(sopclasses, "STORAGE", tuple(uid for uid in sopclasses.STORAGE if uid != CT))
    assert not declared().classes(STORE).count(CT)
    unasked = replace(declared(), proposed={key: how for key, how in now.proposed.items() if key[1] != CT})
    assert CT not in cells(statement(unasked))
    echo = {key: serve for key, serve in served.SERVICES.items() if key[1] != sopclasses.VERIFICATION}
    monkeypatch.setattr(served, "SERVICES", echo)
    without = declared()
    assert "C-ECHO" not in without.served.get(sopclasses.VERIFICATION, ())
    assert not without.classes("C-ECHO")


def test_a_service_that_is_added_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    performed = "1.2.840.10008.3.1.2.3.3"
    monkeypatch.setitem(served.SERVICES, (0x0140, performed), served.echo)
    found = markdown(statement(declared()))
    assert f"| Modality Performed Procedure Step | {performed} | N-CREATE | N | Y |" in found
    assert "| Instance Availability Notification | 1.2.840.10008.5.1.4.33 | N-CREATE | Y | Y |" in found


def test_settings_show_in_the_statement(now: Declared) -> None:
    mine = config.resolve(Path("/"), {"dimse": {"aet": "NORTH", "pdu_bytes": 65536, "unknown_classes": False}}, {})
    found = markdown(statement(declared(mine)))
    assert "`NORTH`" in found and "65,536 bytes" in found
    assert "are accepted as SCP as well" in markdown(statement(now)) and "are accepted as SCP as well" not in found


def test_every_kind_of_matching_has_words() -> None:
    assert set(services.MATCHING) == set(Matching)


def test_whoever_proposes_contexts_says_which(project: Path, now: Declared) -> None:
    """A module of `dimse` that makes a context to propose has the constant PROPOSES, or the statement would not know."""
    proposing: list[str] = []
    for path in sorted((project / "src/radiolith/dimse").glob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        calls = any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Wanted"
            for node in ast.walk(tree)
        )
        says = "PROPOSES" in path.read_text("utf-8")
        proposing += [path.name] if calls and not says else []
    assert not proposing, f"{proposing}: say in PROPOSES which requests and SOP classes (dimse/asking.py shows how)"
    assert {("C-ECHO", sopclasses.VERIFICATION), (STORE, CT)} <= set(now.proposed)


# ---------------------------------------------------------------- IHE


def test_an_actor_is_claimed_only_with_all_of_its_transactions(now: Declared) -> None:
    claimed = [each for each in ihe.ACTORS if each.implemented(now)]
    assert claimed
    for actor in claimed:
        assert f"| {actor.profile} | {actor.actor} | none |" in markdown(integration_statement(now))
    nothing = replace(now, resources=(), served={}, offer=replace(now.offer, accepts={}))
    assert not [each for each in ihe.ACTORS if each.implemented(nothing)]
    partly = replace(now, resources=[each for each in now.resources if each["path"] != "/studies"])
    found = {each.actor: each.implemented(partly) for each in ihe.ACTORS if "(WIA)" in each.profile}
    assert found == {"Imaging Document Source": True, "Imaging Document Responder": False}
    assert "| Imaging Document Responder | none |" not in markdown(integration_statement(partly))
    assert "| Imaging Document Responder | nothing | RAD-129 QIDO-RS Query |" in markdown(integration_statement(partly))


def test_what_is_served_in_part_is_not_claimed(now: Declared) -> None:
    """Documents are queried by their title, which the index does not have; nobody describes an image from its bulk data."""
    lacks = {each.profile.partition("(")[2][:-1]: [one.number for one in each.lacks(now)] for each in ihe.ACTORS}
    assert lacks == {"WIA": [], "WIC": ["RAD-108"], "KIN": ["RAD-30"], "ED": ["RAD-44"], "REM": ["RAD-64"]}
    for path in ihe._DOCUMENT_TITLE:
        assert path not in {each.path for each in ATTRIBUTES}


def test_evidence_needs_commitment(now: Declared) -> None:
    ed = next(each for each in ihe.ACTORS if "(ED)" in each.profile)
    without = {uid: names for uid, names in now.served.items() if uid != sopclasses.STORAGE_COMMITMENT}
    accepts = {uid: how for uid, how in now.offer.accepts.items() if uid != sopclasses.STORAGE_COMMITMENT}
    lacks = ed.lacks(replace(now, served=without, offer=replace(now.offer, accepts=accepts)))
    assert "RAD-10" in {each.number for each in lacks} - {each.number for each in ed.lacks(now)}
    assert STORE in now.requests(CT)


# ---------------------------------------------------------------- forms and the command


def test_forms_say_the_same(now: Declared) -> None:
    document = Section("A <b>", ("one & two", Table.of("T|", ("x",), [("a|b",)])), (Section("inner", (), ()),))
    assert markdown(document) == "# A <b>\n\none & two\n\n**T|**\n\n| x |\n|---|\n| a\\|b |\n\n## 1 inner\n"
    assert "<h1>A &lt;b&gt;</h1>" in page(document) and "<td>a|b</td>" in page(document)
    assert plain(document)["blocks"][1]["rows"] == (("a|b",),)
    assert len(json.dumps(plain(statement(now)))) > 50_000


def test_the_command_writes_each_form(tmp_path: Path) -> None:
    run = CliRunner()
    assert run.invoke(app, ["conformance"]).stdout == markdown(statement(declared(defaults())))
    assert run.invoke(app, ["conformance", "--format", "html"]).stdout.startswith("<!doctype html>")
    given = json.loads(run.invoke(app, ["conformance", "--format", "json", "--integration-statement"]).stdout)
    assert given["title"].startswith("IHE Integration Statement")
    config.write_default(tmp_path)
    (tmp_path / config.FILE).write_text('[dimse]\naet = "SOUTH"\n')
    assert "`SOUTH`" in run.invoke(app, ["conformance", "--home", str(tmp_path)]).stdout

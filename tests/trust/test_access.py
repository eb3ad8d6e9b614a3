"""Roles and actions, every cell."""

from __future__ import annotations

import pytest

from radiolith.model import NotAllowed, Principal, Tenant
from radiolith.trust.access import ROLES, Action, allows, require


def who(role: str) -> Principal:
    return Principal(Tenant(1, b"t" * 16, "default"), "x", role, "user")


def test_every_cell_of_the_matrix() -> None:
    may = {role: {action.name for action in Action if allows(who(role), action)} for role in ROLES}
    assert may == {
        "admin": {action.name for action in Action},
        "archivist": {
            "STORE", "QUERY", "RETRIEVE", "REJECT", "RESTORE", "SWITCH", "COMMIT", "QUARANTINE", "STATUS", "EXPORT", "SEND",
            "ASSOCIATIONS", "AMEND", "PATIENTS", "DESK", "LABEL", "HISTORY", "FOLLOW",
        },
        "editor": {"STORE", "QUERY", "RETRIEVE", "COMMIT", "STATUS", "LABEL", "FOLLOW"},
        "reader": {"QUERY", "RETRIEVE", "STATUS", "FOLLOW"},
        "writer": {"STORE", "COMMIT", "STATUS"},
        "auditor": {"AUDIT", "ASSOCIATIONS", "STATUS", "HISTORY"},
    }  # fmt: skip


def test_an_unknown_role_may_do_nothing() -> None:
    for action in Action:
        with pytest.raises(NotAllowed):
            require(who("nobody"), action)

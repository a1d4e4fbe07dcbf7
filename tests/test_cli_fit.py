"""The commands below `mads fit` are there, each with what it needs."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from mads.cli import app


def test_both_are_listed() -> None:
    found = CliRunner().invoke(app, ["fit", "--help"])
    assert found.exit_code == 0
    assert "prior" in found.output
    assert "influence" in found.output


@pytest.mark.parametrize(
    ("command", "needed"),
    [("prior", ("--store", "--out")), ("influence", ("--store", "--run", "--out"))],
)
def test_what_a_command_needs_is_asked_for(command: str, needed: tuple[str, ...]) -> None:
    given = {"--store": "s", "--run": "r", "--out": "o"}
    for missing in needed:
        arguments = [word for name in needed if name != missing for word in (name, given[name])]
        found = CliRunner().invoke(app, ["fit", command, *arguments])
        assert found.exit_code == 2
        assert f"Missing option '{missing}'" in found.output

"""The command line in this process, or in one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from mads.__main__ import run


def mads(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command line in this process; return exit code, stdout, stderr."""
    before = sys.argv
    sys.argv = ["mads", *map(str, arguments)]
    try:
        code = run()
    finally:
        sys.argv = before
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def mads_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "mads", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write_console(path: Path, categories: Mapping[str, Sequence[str]], favourite: str) -> Path:
    """Write a console state that prefers one category."""
    weights = {
        agent: {name: 5.0 if name == favourite else 0.1 for name in names}
        for agent, names in categories.items()
    }
    theta = dict.fromkeys(weights, 1 / len(weights))
    path.write_text(json.dumps({"round": 3, "theta": theta, "weights": weights}))
    return path

"""What other weights would select, without writing anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import mads

from mads.errors import UsageError
from mads.report.what_if import scaled_theta
from mads.types import ConsoleState


def test_scaled_theta_by_hand() -> None:
    state = ConsoleState(1, {"a": {}, "b": {}}, {"a": 0.25, "b": 0.75})
    assert scaled_theta(state, "a=3").theta == pytest.approx({"a": 0.5, "b": 0.5})
    assert scaled_theta(state, "a=1, b=0").theta == pytest.approx({"a": 1.0, "b": 0.0})
    for text, message in (
        ("c=1", "'c' is no agent"),
        ("a=1,a=2", "--theta 'a=1,a=2' names 'a' twice. Give each agent one factor"),
        ("a", "not of the form agent=factor"),
        ("a=-1", "not of the form agent=factor"),
        ("a=x", "not of the form agent=factor"),
        ("a=0,b=0", "leaves no agent"),
        ("a=1e400", "not of the form agent=factor"),
        ("a=" + "9" * 5000, r"--theta 'a=9{58}'… \(5002 characters\) is not of the form"),
    ):
        with pytest.raises(UsageError, match=message):
            scaled_theta(state, text)
    large = ConsoleState(1, {"a": {}}, {"a": 1e100})
    with pytest.raises(UsageError, match="leaves no agent, or is too large"):
        scaled_theta(large, "a=1e300")


def test_what_if_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.rglob("*"))
    base = ("what-if", "--store", folder / "store", "--run", folder / "run", "--tokens", "2K")
    code, out, _ = mads(capsys, *base, "--theta", "kind=4,quality=4,coin=0", "--json")
    assert code == 0
    share = json.loads(out)["composition"]["kind"]
    console = json.loads((folder / "run" / "rounds" / "0003" / "console.json").read_text())
    best = max(console["weights"]["kind"], key=lambda name: console["weights"]["kind"][name])
    assert share[best][1] > share[best][0]
    in_docs = (*base[:-2], "--docs", "20", "--theta", "kind=4,quality=4,coin=0", "--json")
    code, out, _ = mads(capsys, *in_docs)
    assert code == 0
    value = json.loads(out)
    assert value["budget_docs"] == 20
    assert sum(pair[1] for pair in value["composition"]["kind"].values()) == pytest.approx(1)
    code, _, err = mads(capsys, *base, "--theta", "kind=4")
    assert code == 0
    assert "kind: share of tokens" in err
    assert sorted(folder.rglob("*")) == before

"""How two selections, or two console states, differ."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command import mads

from mads.errors import DataError
from mads.report.diff import diff_consoles, diff_selections


def test_two_selections_and_two_states(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rounds = folder / "run" / "rounds"
    code, out, _ = mads(capsys, "diff", rounds / "0000", rounds / "0003", "--json")
    found = json.loads(out)
    assert code == 0
    picked = [
        set(pq.read_table(rounds / n / "selection.parquet")["doc"].to_pylist())
        for n in ("0000", "0003")
    ]
    assert found["docs"] == {
        "both": len(picked[0] & picked[1]),
        "only_a": len(picked[0] - picked[1]),
        "only_b": len(picked[1] - picked[0]),
    }
    assert sum(pair[1] for pair in found["composition"]["kind"].values()) == pytest.approx(1)
    code, _, err = mads(capsys, "diff", rounds / "0000", rounds / "0003")
    assert code == 0
    assert "documents are in both" in err
    pair = (rounds / "0000" / "console.json", rounds / "0003" / "console.json")
    code, out, _ = mads(capsys, "diff", *pair, "--json")
    assert json.loads(out)["weights"]["kind"]["useful"][0] == 1.0
    code, _, err = mads(capsys, "diff", *pair)
    assert code == 0
    assert "w kind" in err


def test_a_selection_that_is_damaged_is_refused(folder: Path, tmp_path: Path) -> None:
    good, bad = folder / "run" / "rounds" / "0000", tmp_path / "bad"
    bad.mkdir()
    with pytest.raises(DataError, match=r"bad/plan\.json does not exist"):
        diff_selections(good, bad)
    (bad / "plan.json").write_bytes((good / "plan.json").read_bytes())
    (bad / "selection.parquet").write_bytes((good / "selection.parquet").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"selection\.parquet cannot be read: .*Put the file back"):
        diff_selections(good, bad)


def test_a_weight_that_one_state_lacks_is_absent(tmp_path: Path) -> None:
    for name, theta, weights in (
        ("a", {"x": 1.0}, {"x": {"p": 1.0, "q": 2.0}}),
        ("b", {"x": 0.5, "y": 0.5}, {"x": {"p": 3.0}, "y": {"r": 4.0}}),
    ):
        value = {"round": 1, "theta": theta, "weights": weights}
        (tmp_path / name).write_text(json.dumps(value))
    found = diff_consoles(tmp_path / "a", tmp_path / "b")
    assert found.rounds == (1, 1)
    assert found.theta == {"x": (1.0, 0.5), "y": (None, 0.5)}
    assert found.weights == {"x": {"p": (1.0, 3.0), "q": (2.0, None)}, "y": {"r": (None, 4.0)}}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("/nowhere", "/nowhere"), "/nowhere does not exist"),
        (("{run}", "{run}/recipe.toml"), "give two folders of selections, or two console"),
    ],
)
def test_what_cannot_be_compared(
    folder: Path, pair: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = mads(capsys, "diff", *(path.format(run=folder / "run") for path in pair))
    assert (code, out) == (2, "")
    assert message in err

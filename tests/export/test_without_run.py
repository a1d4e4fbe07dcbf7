"""Selecting from labels alone, without a run: what one prefers, a mixture, a prior's file."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command import mads


def read(out: Path) -> dict[str, float]:
    """Return the shares of kinds in what was selected, in tokens."""
    table = pq.read_table(out / "selection.parquet").to_pylist()
    total = sum(row["num_tokens"] for row in table)
    kinds = {row["kind"] for row in table}
    return {k: sum(r["num_tokens"] for r in table if r["kind"] == k) / total for k in kinds}


def select(
    capsys: pytest.CaptureFixture[str], folder: Path, out: Path, *more: object
) -> tuple[int, str]:
    call = ("select", "--store", folder / "store", "--out", out, "--tokens", "3000", *more)
    code, _, err = mads(capsys, *call)
    return code, err


def test_the_best_by_ones_own_labels(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preferred = ("--prior", "kind.useful=9", "--prior", "quality.low=0.5")
    code, err = select(capsys, folder, tmp_path / "out", *preferred)
    assert code == 0, err
    assert read(tmp_path / "out") == {"useful": 1.0}
    code, err = select(capsys, folder, tmp_path / "out", *preferred)  # it is complete
    assert code == 0, err
    code, err = select(capsys, folder, tmp_path / "out", "--prior", "kind.useful=3")
    assert code == 2
    assert "holds another selection (follows:" in err


def test_a_mixture_and_the_corpuss_own(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixture = ("--set", "strategy=mixture", "--set", "mixture.kind={useful=0.5,noise=0.5}")
    code, err = select(capsys, folder, tmp_path / "mixed", *mixture)
    assert code == 0, err
    assert read(tmp_path / "mixed")["noise"] == pytest.approx(0.5, abs=0.05)
    code, err = select(capsys, folder, tmp_path / "own", "--set", "selection.policy=random")
    assert code == 0, err
    assert min(read(tmp_path / "own").values()) > 0.1  # a third each


def test_a_file_of_weights(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prior = tmp_path / "prior.json"
    prior.write_text(json.dumps({"weights": {"kind": {"noise": 20.0}}}))
    code, err = select(capsys, folder, tmp_path / "out", "--prior-file", prior)
    assert code == 0, err
    assert read(tmp_path / "out") == {"noise": 1.0}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--prior", "kind.usefl=2"], "no such category; did you mean 'useful'?"),
        (["--prior", "knd.useful=2"], "did you mean 'kind'?"),
        (
            ["--prior", "useful=2"],
            "is not of the form AGENT.CATEGORY=WEIGHT, such as",
        ),
        (["--prior", "kind.useful"], "is not of the form AGENT.CATEGORY=WEIGHT"),
        (["--prior", "kind.useful=much"], "is not of the form AGENT.CATEGORY=WEIGHT"),
        (["--prior", "kind.useful=2", "--run", "x"], "leave out --run or --prior"),
        (["--prior-file", "nowhere.json"], "nowhere.json cannot be read"),
        ([], "or what you prefer: --prior AGENT.CATEGORY=WEIGHT, --prior-file FILE, or a --recipe"),
    ],
)
def test_what_is_wrong_is_told(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    code, err = select(capsys, folder, tmp_path / "out", *more)
    assert code == 2, err
    assert message in err
    assert not (tmp_path / "out").exists()

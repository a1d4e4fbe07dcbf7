"""What the tables say of results, in a log."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mads import tables, terminal
from mads.agents.agent import bin_names
from mads.agents.target import TargetTask
from mads.demo.harvest import HarvestSummary
from mads.evaluation.evaluate import Evaluation, Mean, Scores, ShotScores, TaskScores
from mads.export.command import PartWritten, Selected
from mads.fit.cluster import Clusters
from mads.fit.target import Targets
from mads.report.compare import Arm, Comparison, Cost, Needed
from mads.report.diff import ConsoleDiff, Overlap, SelectionDiff
from mads.report.explain import DocumentLabel, Explanation, RoundOfDocument
from mads.report.statistics import Estimate
from mads.types import Cells


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=text, width=120))
    return text


def words(screen: io.StringIO) -> str:
    """Return all that was shown, without frames and with single spaces."""
    plain = "".join(" " if c in "┃│━─┏┓┗┛┡┩└┘├┤┼┬┴╇╈┳┻" else c for c in screen.getvalue())
    return " ".join(plain.split())


def test_cells(screen: io.StringIO) -> None:
    cells = Cells(
        agents=("q",),
        categories={"q": ("lo", "hi")},
        category_CA=np.array([[0], [1]], np.uint16),
        num_docs_C=np.array([3, 1]),
        num_tokens_C=np.array([10, 30]),
        first_row_C=np.array([0, 3]),
    )
    tables.show_cells(cells)
    assert "q category documents of documents of tokens" in words(screen)
    assert "lo 3 75.0% 25.0% hi 1 25.0% 75.0%" in words(screen)


def selected(short: int = 0, *, complete: bool = False) -> Selected:
    shares = {"q": {"lo": [0.0, 0.25], "hi": [0.5, 0.75]}}
    return Selected("out", complete, 1_200, 34_000, None, 1_200, None, short, shares)


def test_a_selection(screen: io.StringIO) -> None:
    tables.show_selected(selected(), 1.234)
    assert "q: share of tokens category corpus selection ratio" in words(screen)
    assert "lo 0.0% 25.0% – hi 50.0% 75.0% 1.50" in words(screen)
    assert words(screen).endswith("out: 1,200 documents, 34,000 tokens; 1.23 s.")
    assert "note:" not in words(screen)
    tables.show_selected(selected(700, complete=True), 1.234)
    note = "note: there is less than the budget asks for; 700 documents are missing."
    assert f"{note} out: 1,200 documents, 34,000 tokens; it was complete already." in words(screen)


def test_a_part(screen: io.StringIO) -> None:
    tables.show_part(PartWritten("out", False, "2/8", 5, 60), 0.5)
    assert words(screen) == "out (part 2/8): 5 documents, 60 tokens; 0.50 s."


def test_weights_stand_in_their_order(screen: io.StringIO) -> None:
    tables.show_weights({"q": 0.25}, {"q": {"lo": 0.5, "hi": 1.5}})
    assert words(screen) == "q: θ = 0.250 category w hi 1.500 lo 0.500"


def round_of(steps: tuple[int, ...]) -> RoundOfDocument:
    return RoundOfDocument(
        3, {"q": 0.5}, {"q": 1.25}, 0.625, 2, 7, 0, len(steps), 50 * len(steps), steps
    )


@pytest.mark.parametrize(
    ("before", "pace", "turn"),
    [
        (10, 0, "As things stand, its turn does not come."),
        (10, 11, "At this pace its turn comes in the next round."),
        (10, 3, "At this pace its turn comes 4 rounds from now."),
    ],
)
def test_an_explanation(screen: io.StringIO, before: int, pace: int, turn: str) -> None:
    rounds = tuple(round_of(steps) for steps in ((), (5,), (5, 6), (5, 6, 7, 8)))
    label = {"q": DocumentLabel("hi", 0.75)}
    found = Explanation(9, "a.jsonl", 9, "ok", 50, 200, label, rounds, 4, 30, 12, before, pace)
    tables.show_explanation(found)
    text = words(screen)
    assert text.startswith("document 9: row 9 of a.jsonl status ok, 50 tokens, 200 bytes Labels")
    assert "q hi 0.750" in text
    row = "3 0.50·1.25 0.625 2 of 7"
    assert f"{row} – – {row} 50 5 {row} 100 5, 6 {row} 200 5, 6, +2" in text
    assert (
        f"From now on {before} of them come before it; the last round took {pace}. {turn}" in text
    )


def test_a_document_without_labels(screen: io.StringIO) -> None:
    tables.show_explanation(Explanation(9, "a.jsonl", 9, "empty", 0, 0))
    assert words(screen).endswith("It has no labels and is never selected.")


def test_differences(screen: io.StringIO) -> None:
    diff = SelectionDiff(Overlap(1_000, 2, 3), (40, 50), {"q": {"lo": [0.5, 0.25]}})
    tables.show_selection_diff(diff)
    assert "q: share of tokens category A B ratio lo 50.0% 25.0% 0.50" in words(screen)
    assert words(screen).endswith(
        "1,000 documents are in both, 2 only in A, 3 only in B; 40 and 50 tokens."
    )
    states = ConsoleDiff((1, 4), {"q": (0.5, 0.75)}, {"q": {"lo": (1.0, None)}})
    tables.show_console_diff(states)
    assert "θ agent round 1 round 4 change q 0.500 0.750 +0.250" in words(screen)
    assert "w q category round 1 round 4 change lo 1.000 – –" in words(screen)


def test_a_harvest(screen: io.StringIO) -> None:
    tables.show_harvest(Path("d"), HarvestSummary({"code": 2}, {"code": 2_000_000}, 5))
    assert "code 2 2.00" in words(screen)
    assert words(screen).endswith("d: corpus/ and reference.jsonl with 5 held-out items.")


def compared(difference: Estimate, needed: Needed) -> Comparison:
    """Two arms with one reference task and no evaluation task."""

    def arm(loss: float, *, own: bool) -> Arm:
        losses = {"lambada": Estimate(loss)}
        means = {"references": Estimate(loss)}
        return Arm(
            fingerprint="f",
            runs=(),
            tasks=losses,
            means=means,
            task_differences={} if own else {"lambada": difference},
            mean_differences={} if own else {"references": difference},
            needed={} if own else {"references": needed},
            read={"q": {"lo": 0.25 if own else 0.125}},
            cost=Cost(1e12, 0 if own else 5e9),
        )

    arms = {"natural": arm(7.0, own=True), "matched": arm(6.5, own=False)}
    head = ("natural", (0, 1), 10_240, 30_816, "s", 1, ("lambada",), (), {"q": {"lo": 0.25}})
    return Comparison(*head, arms)


@pytest.mark.parametrize(
    ("needed", "row"),
    [
        (Needed((4e3, 6e3), Estimate(2.0, 0.1, 1.5, 2.5), None), "5,000 2.00 [1.50, 2.50]"),
        (Needed((4e3,), Estimate(2.0), None), "4,000 2.00 –"),
        (Needed((4e3, None), None, 1.25), "over 10,240 in 1 of 2 below 1.25"),
        (Needed((0.0,), None, None), "0 –"),
        (Needed((0.0, None), None, None), "over 10,240 in 1 of 2 –"),
    ],
)
def test_a_comparison(screen: io.StringIO, needed: Needed, row: str) -> None:
    tables.show_comparison(Path("d"), compared(Estimate(-0.5, 0.1, -0.75, -0.25), needed))
    text = words(screen)
    assert (
        "q: share of the tokens read category corpus natural matched lo 25.0% 25.0% 12.5%" in text
    )
    assert "arm references − natural natural 7.0000 matched 6.5000 -0.5000 ±0.2500 By" in text
    assert "task natural matched lambada 7.0000 6.5000 -0.5000 ±0.2500" in text
    assert f"final loss of natural arm references times fewer matched {row} Cost" in text
    assert "natural 1e+12 0 0.00% matched 1e+12 5e+09 0.50%" in text
    assert text.endswith("d: 2 arms, 2 seed(s), 10,240 tokens a run, 30,816 parameters.")


def test_a_comparison_of_one_seed_has_no_interval(screen: io.StringIO) -> None:
    tables.show_comparison(Path("d"), compared(Estimate(-0.5), Needed((4e3,), Estimate(2.0), None)))
    assert "lambada 7.0000 6.5000 -0.5000 – Tokens" in words(screen)


def test_an_evaluation(screen: io.StringIO) -> None:
    """One number of shots has no mean over them, one task none over tasks."""
    scores = Scores(Mean(1.25, 0.5), Mean(0.5, 0.125), Mean(0.25, 0.0625))
    alone = Scores(Mean(2.0, None), Mean(1.0, None), None)
    two = (ShotScores(0, 0, scores), ShotScores(3, 1_500, scores))
    tasks = {
        "piqa": TaskScores("piqa.jsonl", "the other items", 2_000, 7, scores, two),
        "lambada": TaskScores("l.jsonl", "l", 1, 0, alone, (ShotScores(0, 0, alone),)),
    }
    found = Evaluation("hf", 1_024, 0, (0, 3), tasks, {"race": "no file"}, alone)
    tables.show_evaluation(found)
    told = words(screen)
    assert "piqa 0 2,000 – 1.250 ±0.500 50.0 ±12.5 25.0 ±6.2" in told
    assert "piqa 3 2,000 1,500 1.250 ±0.500" in told
    assert "piqa mean 2,000 1.250 ±0.500" in told
    assert "lambada 0 1 – 2.000 ±– 100.0 ±– – all tasks mean 2.000 ±– 100.0 ±– –" in told
    assert "note: piqa: 7 rows without a right answer are left out." in told
    assert "note: race is not evaluated: no file." in told
    assert told.endswith("items whose beginning did not fit into the model's 1,024 tokens.")
    assert "lambada mean" not in told


def test_clusters(screen: io.StringIO) -> None:
    """The largest 40 are shown, and what the model is used for."""
    names = [f"c{k:04d}" for k in range(1, 43)]
    sizes = dict.fromkeys(names, 2) | {"c0001": 18, "c0042": 0}
    found = Clusters("m", 100, 8, 0.25, 0.5, sizes, dict.fromkeys(names, ("oak", "[elm]")), 0.18)
    tables.show_clusters(Path("my/topics.safetensors"), found)
    told = words(screen)
    assert "c0001 18 18.0% oak [elm]" in told
    assert "c0040 2" in told
    assert "c0041" not in told
    assert "... and 2 smaller ones; --json lists all of them." in told
    assert "42 clusters of 100 documents in 8 dimensions, which keep 25% of the variance" in told
    assert "largest cluster has 18.0% of the documents, 1 have none" in told
    assert '[agents.topics] backend = "cluster" model = "my/topics.safetensors"' in told


def test_targets(screen: io.StringIO) -> None:
    task = TargetTask("squad", 0.5, 1_000, 20_000, 0.125, -1.5, 0.25)
    found = Targets("m", 100, False, (task,), {"like": dict.fromkeys(bin_names((), 10), 1.0)})
    tables.show_targets(Path("like.safetensors"), found)
    told = words(screen)
    assert "Log importance ratio of a document's n-grams, nats" in told
    assert "squad 50% 1,000 20,000 12.5% -1.5 0.25" in told
    assert '[agents.like] backend = "target" model = "like.safetensors" to the recipe' in told
    assert told.endswith("--set strategy=fixed --set console.prior_file=like.json")

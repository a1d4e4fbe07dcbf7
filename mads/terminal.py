"""What people see: progress bars, the live view of a run, tables. Words go to stderr.

On a terminal things move; in a pipe or a log there is one line per 30 seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mads.run.records import EndRecord, RoundRecord, StepRecord
from mads.types import Cells

LINE_SECONDS = 30.0
TOP_CATEGORIES = 3
TOP_STEPS = 2

console = Console(stderr=True)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that is told (what, done, total)."""
    if not console.is_terminal:
        yield _lines()
        return
    columns = (
        TextColumn("{task.description:20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield report


def _lines() -> Callable[[str, int, int], None]:
    last: dict[str, float] = {}
    ended: set[str] = set()

    def report(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total and what not in ended:
            ended.add(what)
            say(f"{what}: {done:,} of {total:,}")
        elif done < total and now - last.setdefault(what, now) >= LINE_SECONDS:
            last[what] = now
            say(f"{what}: {done:,} of {total:,}")

    return report


def say(text: str) -> None:
    """Print a line for people."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table for people; the first column is text, the others are numbers."""
    # Names come from the user's corpus, so nothing here is markup.
    view = Table(title=Text(title), title_justify="left", title_style="bold", header_style="dim")
    for i, name in enumerate(columns):
        view.add_column(Text(name), justify="left" if i == 0 else "right")
    for row in rows:
        view.add_row(*(Text(cell) for cell in row))
    console.print(view)


def show_cells(cells: Cells) -> None:
    """Show how each agent's categories share the corpus."""
    for column, agent in enumerate(cells.agents):
        names = cells.categories[agent]
        docs, tokens = (
            np.bincount(cells.category_CA[:, column], counts, len(names))
            for counts in (cells.num_docs_C, cells.num_tokens_C)
        )
        rows = [
            [name, f"{d:,.0f}", f"{d / docs.sum():.1%}", f"{t / tokens.sum():.1%}"]
            for name, d, t in zip(names, docs, tokens, strict=True)
        ]
        table(agent, ["category", "documents", "of documents", "of tokens"], rows)


def show_shares(shares: Mapping[str, Mapping[str, list[float]]], titles: tuple[str, str]) -> None:
    """Show two distributions of tokens over each agent's categories."""
    for agent, categories in shares.items():
        rows = [
            [name, f"{before:.1%}", f"{after:.1%}", f"{after / before:.2f}" if before else "–"]
            for name, (before, after) in categories.items()
        ]
        table(f"{agent}: share of tokens", ["category", *titles, "ratio"], rows)


def show_selection(result: Mapping[str, Any]) -> None:
    """Show what ``mads select`` wrote."""
    if "composition" in result:
        show_shares(result["composition"], ("corpus", "selection"))
    for unit, name in (("tokens", "tokens"), ("docs", "documents")):
        if short := result.get(f"shortfall_{unit}"):
            say(f"note: there is less than the budget asks for; {short:,} {name} are missing.")
    part = f" (part {result['shard']})" if "shard" in result else ""
    say(
        f"{result['out']}{part}: {result['num_docs']:,} documents, "
        f"{result['num_tokens']:,} tokens; {result['seconds']:.2f} s."
    )


def show_weights(theta: Mapping[str, float], weights: Mapping[str, Mapping[str, float]]) -> None:
    """Show θ and w, the largest weights first."""
    for agent, categories in weights.items():
        ranked = sorted(categories.items(), key=lambda item: -item[1])
        rows = [[name, f"{value:.3f}"] for name, value in ranked]
        table(f"{agent}: θ = {theta[agent]:.3f}", ["category", "w"], rows)


def show_explanation(found: Mapping[str, Any]) -> None:
    """Show what ``mads explain`` found."""
    say(f"document {found['doc']}: row {found['row']} of {found['file']}")
    say(f"status {found['status']}, {found['num_tokens']:,} tokens, {found['num_bytes']:,} bytes")
    if not found["labels"]:
        say("It has no labels and is never selected.")
        return
    rows = [
        [a, found["labels"][a]["category"], f"{found['labels'][a]['score']:.3f}"]
        for a in found["labels"]
    ]
    table("Labels", ["agent", "category", "score"], rows)
    agents = list(found["labels"])
    columns = ["round", *(f"θ·w {agent}" for agent in agents), "score", "rank", "steps"]
    table(
        "Rounds (rank: of its cell; steps: from which on it was read)",
        columns,
        [
            [
                str(r["round"]),
                *(f"{r['theta'][a]:.2f}·{r['weights'][a]:.2f}" for a in agents),
                f"{r['score']:.3f}",
                f"{r['rank']} of {r['cells']}",
                _when(r["steps"]),
            ]
            for r in found["rounds"]
        ],
    )
    before, pace = found["docs_before_it"], found["cell_docs_last_round"]
    turn = "As things stand, its turn does not come."
    if pace:
        rounds = before // pace + 1
        turn = "At this pace its turn comes in the next round."
        if rounds > 1:
            turn = f"At this pace its turn comes {rounds:,} rounds from now."
    say(
        f"Its cell ({found['cell']}) has {found['cell_docs']:,} documents. From now on {before:,} "
        f"of them come before it; the last round took {pace:,}. {turn}"
    )


def _when(steps: list[int]) -> str:
    """Return from which steps on a round reads a document, the first ones by number."""
    if not steps:
        return "–"
    shown = ", ".join(map(str, steps[:TOP_STEPS]))
    return shown if len(steps) <= TOP_STEPS else f"{shown}, +{len(steps) - TOP_STEPS}"


def show_selection_diff(found: Mapping[str, Any]) -> None:
    """Show what ``mads diff`` found of two selections."""
    docs, tokens = found["docs"], found["tokens"]
    show_shares(found["composition"], ("A", "B"))
    say(
        f"{docs['both']:,} documents are in both, {docs['only_a']:,} only in A, "
        f"{docs['only_b']:,} only in B; {tokens[0]:,} and {tokens[1]:,} tokens."
    )


def show_console_diff(found: Mapping[str, Any]) -> None:
    """Show what ``mads diff`` found of two console states."""

    def cells(pair: list[float | None]) -> list[str]:
        known = [value for value in pair if value is not None]
        change = f"{known[1] - known[0]:+.3f}" if len(known) == 2 else "–"
        return [*("–" if value is None else f"{value:.3f}" for value in pair), change]

    columns = [f"round {number}" for number in found["rounds"]]
    rows = [[agent, *cells(pair)] for agent, pair in found["theta"].items()]
    table("θ", ["agent", *columns, "change"], rows)
    for agent, weights in found["weights"].items():
        rows = [[name, *cells(pair)] for name, pair in weights.items()]
        table(f"w {agent}", ["category", *columns, "change"], rows)


def weights_line(theta: Mapping[str, float]) -> str:
    """Return θ on one line."""
    return "  ".join(f"{agent} {value:.3f}" for agent, value in theta.items())


def top_categories(weights: Mapping[str, Mapping[str, float]], agent: str) -> str:
    """Return an agent's largest category weights on one line."""
    ranked = sorted(weights[agent].items(), key=lambda item: -item[1])[:TOP_CATEGORIES]
    return ", ".join(f"{name} {value:.2f}" for name, value in ranked)


def losses_line(losses: Mapping[str, float]) -> str:
    """Return task losses on one line."""
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items())


class RunView:
    """The view of a run (a ``mads.run.watcher.Watcher``)."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._step: StepRecord | None = None
        self._round: RoundRecord | None = None
        self._speed = 0.0
        self._said = time.monotonic()
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._view)

    def __enter__(self) -> RunView:
        if console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if console.is_terminal:
            self._live.stop()

    def step(self, record: StepRecord) -> None:
        """Show a step."""
        self._step = record
        old, new = self._speed, record.tokens_per_s
        self._speed = new if not old else 0.9 * old + 0.1 * new
        if not console.is_terminal and time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            say(self._step_line(record))

    def round(self, record: RoundRecord | EndRecord) -> None:
        """Show the beginning of a round, or the end of the run."""
        losses = losses_line(record.losses)
        if isinstance(record, EndRecord):
            say(f"end      step {record.step:>6}  {losses}")
            return
        self._round = record
        theta = f"  |  θ {weights_line(record.theta)}" if record.theta else ""
        say(f"round {record.round:>2} step {record.step:>6}  {losses}{theta}")

    def note(self, text: str) -> None:
        """Show a note."""
        say(f"note: {text}")

    def _step_line(self, record: StepRecord) -> str:
        per_second = self._speed / record.tokens
        left = (self._steps - record.step - 1) / max(per_second, 1e-9)
        return (
            f"step {record.step + 1:>6} of {self._steps}  loss {record.loss:.3f}  "
            f"{self._speed:,.0f} tokens/s  {left / 60:.0f} min left"
        )

    def _view(self) -> Group:
        rows: list[tuple[str, str]] = []
        if self._step is not None:
            rows.append(("training", self._step_line(self._step)))
        if self._round is not None:
            weights = self._round.weights
            rows.append(("round", str(self._round.round)))
            if weights:
                rows.append(("θ", weights_line(self._round.theta)))
            rows += [(f"w {agent}", top_categories(weights, agent)) for agent in weights]
        view = Table.grid(padding=(0, 2))
        for row in rows:
            view.add_row(*(Text(cell) for cell in row))
        return Group(view)

"""What people see: progress bars, the live view of a run, tables. Words go to stderr.

On a terminal things move; in a pipe or a log there is one line per 30 seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mads.run.records import EndRecord, RoundRecord, StepRecord
from mads.units import visible, visible_json

LINE_SECONDS = 30.0
TOP_CATEGORIES = 3

console = Console(stderr=True)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout, in which nothing steers a terminal."""
    sys.stdout.write(visible_json(json.dumps(value, ensure_ascii=False)) + os.linesep)


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Show that something is being loaded: on a terminal it moves."""
    if not console.is_terminal:
        say(f"loading {what} …")
        yield
        return
    with console.status(f"loading {what} …"):
        yield


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
                tasks[what] = bars.add_task(visible(what), total=total)
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
    text = visible(text, keep="\n")
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def shown(text: str) -> Text:
    """Return a text for a table: nothing in it is markup or steers the terminal."""
    return Text(visible(text))


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table for people; the first column is text, the others are numbers."""
    view = Table(title=shown(title), title_justify="left", title_style="bold", header_style="dim")
    for i, name in enumerate(columns):
        view.add_column(shown(name), justify="left" if i == 0 else "right")
    for row in rows:
        view.add_row(*(shown(cell) for cell in row))
    console.print(view)


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
            view.add_row(*(shown(cell) for cell in row))
        return Group(view)

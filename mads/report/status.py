"""How a run stands: at work, stopped or done, how far, how fast, and where its losses are."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mads.files import is_held
from mads.layout import check_kind
from mads.run.ledger import Ledger, ledger_of
from mads.run.reader import Run
from mads.run.records import EndRecord, RoundRecord, SkippedRecord, StepRecord, guards_of

RECENT = 20  # steps over which speed and training loss are taken

State = Literal["running", "stopped", "done", "not begun"]


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a run from its folder, whoever trains it and wherever.

    ``steps_done`` of ``steps`` are in metrics.jsonl; after a kill the run goes on from
    ``checkpoint``. ``loss`` and ``tokens_per_s`` are medians of the latest steps, ``seconds_left``
    follows from them. Losses of tasks are in nats per token: the first ones and the latest.
    """

    run: str
    state: State
    steps_done: int
    steps: int
    round: int
    checkpoint: int
    loss: float | None
    tokens_per_s: float | None
    seconds_left: float | None
    first_losses: Mapping[str, float]
    losses: Mapping[str, float]
    losses_step: int
    guards: Mapping[str, int]
    ledger: Ledger


def status(root: Path) -> Status:
    """Return how a run stands; nothing in its folder is changed.

    Raises UsageError for what is no run, DataError for a damaged file.
    """
    check_kind(root, "a run")
    run = Run(root)
    records = run.records
    steps = [record for record in records if isinstance(record, StepRecord)]
    rounds = [record for record in records if isinstance(record, RoundRecord)]
    told = [record for record in records if isinstance(record, RoundRecord | EndRecord)]
    recent, training = steps[-RECENT:], run.recipe.training
    speed = statistics.median(one.tokens_per_s for one in recent) if recent else None
    seen = [record for record in records if isinstance(record, StepRecord | SkippedRecord)]
    done = seen[-1].step + 1 if seen else 0
    state: State = "done" if run.result is not None else "stopped" if records else "not begun"
    if run.result is None and is_held(root):
        state = "running"
    left = (training.steps - done) * training.batch_tokens
    return Status(
        run=str(root),
        state=state,
        steps_done=done,
        steps=training.steps,
        round=rounds[-1].round if rounds else 0,
        checkpoint=max(run.checkpoints, default=0),
        loss=statistics.median(one.loss for one in recent) if recent else None,
        tokens_per_s=speed,
        seconds_left=left / speed if speed and state != "done" else None,
        first_losses=told[0].losses if told else {},
        losses=told[-1].losses if told else {},
        losses_step=told[-1].step if told else 0,
        guards=guards_of(records),
        ledger=ledger_of(records),
    )

"""What a run has cost so far: seconds and floating-point operations of each of its stages.

It follows from metrics.jsonl alone, so it adds up over all calls that made the run; the work of
steps that were lost with a kill, and taken again, is counted once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mads.config import Recipe
from mads.rewards.cost import FORWARD, STEP, ModelShape, Work, reward_flops
from mads.run.records import (
    Effort,
    FeedbackRecord,
    Record,
    RoundRecord,
    SkippedRecord,
    StepRecord,
)

if TYPE_CHECKING:  # they import torch, which whoever reads a run need not
    from mads.training.model import LanguageModel
    from mads.training.task_loss import BatchedTask


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds, operations and seconds of GPUs; None = not counted, or not known of these records.

    Operations are those of the model; selecting and labelling have none.
    """

    seconds: float
    flops: float | None = None
    gpu_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a run has cost by stage.

    ``annotate`` is what the run itself has labelled (``influence.every``): a store does not say
    what it has cost. ``gpu_seconds`` are the wall's times the number of processes with a GPU.
    """

    annotate: Spent
    select: Spent
    rewards: Spent
    training: Spent
    evaluation: Spent


def ledger_of(records: Iterable[Record], annotated: float = 0.0) -> Ledger:
    """Return what the stages have cost that metrics.jsonl tells of.

    ``annotated``: the seconds that the store has cost, where it is at hand.
    """
    labelling, selecting = annotated, 0.0
    sums = {"rewards": _Sum(), "training": _Sum(), "evaluation": _Sum()}
    effort: Effort | None = None
    for record in records:
        if isinstance(record, StepRecord | SkippedRecord):
            flops = effort.token_flops * record.tokens if effort else None
            seconds = record.tokens / record.tokens_per_s if record.tokens_per_s else 0.0
            sums["training"].add(seconds, flops, effort)
            continue
        effort = record.effort
        if effort is not None:
            sums["evaluation"].add(effort.eval_s, effort.eval_flops, effort)
        if isinstance(record, RoundRecord):
            selecting += record.select_ms / 1000
            labelling += record.refresh.seconds if record.refresh else 0.0
            if record.feedback is not None:
                spent = effort.reward_flops if effort else None
                sums["rewards"].add(record.feedback.reward_s, spent, effort)
    found = {name: one.spent() for name, one in sums.items()}
    return Ledger(annotate=Spent(labelling), select=Spent(selecting), **found)


class _Sum:
    """A stage's costs, added up; what one record does not tell, the sum does not either."""

    def __init__(self) -> None:
        self.seconds, self.flops, self.gpu_seconds = 0.0, 0.0, 0.0
        self.known = True

    def add(self, seconds: float, flops: float | None, effort: Effort | None) -> None:
        self.seconds += seconds
        self.known &= effort is not None
        self.flops += flops or 0.0
        self.gpu_seconds += seconds * (effort.gpus if effort else 0)

    def spent(self) -> Spent:
        if not self.known:
            return Spent(self.seconds)
        return Spent(self.seconds, self.flops, self.gpu_seconds)


def shape_of(lm: LanguageModel) -> ModelShape:
    """Return what a model's operations depend on; a foreign one's attention may be left out."""
    config = getattr(lm.model, "config", None)
    return ModelShape(
        parameters=sum(parameter.numel() for parameter in lm.parameters.values()),
        layers=int(getattr(config, "num_hidden_layers", 0) or 0),
        width=int(getattr(config, "hidden_size", 0) or 0),
    )


def effort_of(
    lm: LanguageModel,
    recipe: Recipe,
    tasks: Mapping[str, BatchedTask],
    references: Iterable[BatchedTask],
    seconds: float,
    feedback: FeedbackRecord | None = None,
) -> Effort:
    """Return what a round's beginning, or the end, has cost.

    ``tasks`` are those whose losses were computed, in ``seconds``; ``references`` those along whose
    loss the rewards of ``feedback`` were measured. Padding counts, since it is computed.
    """
    shape, context = shape_of(lm), recipe.training.context
    evaluated = math.fsum(_flops(shape, task, FORWARD) for task in tasks.values())
    return Effort(
        eval_s=seconds,
        eval_flops=evaluated,
        reward_flops=_reward_flops(shape, recipe, list(references), feedback),
        token_flops=shape.token_flops(STEP, context),
        gpus=lm.world.size if lm.device.type == "cuda" else 0,
    )


def _flops(shape: ModelShape, task: BatchedTask, passes: int) -> float:
    """Return the operations of so many passes over a task, with its padding."""
    sizes = [batch.tokens_BT.shape for batch in task.batches]
    return math.fsum(rows * length * shape.token_flops(passes, length) for rows, length in sizes)


def _reward_flops(
    shape: ModelShape,
    recipe: Recipe,
    references: list[BatchedTask],
    feedback: FeedbackRecord | None,
) -> float:
    if feedback is None or not feedback.probes:
        return 0.0
    work = Work(
        probes=feedback.probes,
        probe_tokens=feedback.probe_tokens,
        directions=len(references) if recipe.rewards.per_task else 1,
        reference_tokens=sum(b.tokens_BT.numel() for task in references for b in task.batches),
        oracle_docs=recipe.rewards.oracle_docs,
    )
    length = feedback.probe_tokens / feedback.probes
    return shape.token_flops(1, length) * reward_flops(recipe.rewards.estimator, work)

"""What can only be measured on a GPU, in under ten minutes: `make gpu` runs it after the tests.

    attention   one layer's forward and backward pass at the model's shape: varlen (ours), SDPA with
                one mask, flex; and how far the first two differ
    tails       varlen with documents of no tokens at the end of cu_seq_lens: the same values?
    training    tokens a second of whole steps: attention by borders or by a mask, blocks compiled
                or not, and a sweep of micro-batches with the RAM of each
    rewards     correlation of `forward` with exact gradients, by precision and step size

`--model 3m` runs the same on a CPU, where varlen and flex are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from bench_train import MODELS, packed, seconds
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.attention.varlen import varlen_attn

from mads.config import TrainingConfig
from mads.rewards.direction import reference
from mads.rewards.estimators import estimate
from mads.rewards.estimators.question import Question
from mads.rewards.sections import ESTIMATOR_SECTIONS, ForwardConfig
from mads.training.attention import borders
from mads.training.build import build_model
from mads.training.data import padded_batch
from mads.training.model import LanguageModel, Precision, TokenBatch
from mads.training.task_loss import BatchedTask
from mads.training.trainer import Trainer

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
KIND = torch.bfloat16 if CUDA else torch.float32
EPSILONS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SWEEP = (4, 8, 16, 32, 64) if CUDA else (4, 8)

Figures = dict[str, float]


def median_of(run: Callable[[], object], times: int = 5) -> float:
    """Return the median time of some calls, after two that do not count."""
    return statistics.median([seconds(run) for _ in range(times + 2)][2:])


def both_passes(attend: Callable[..., Tensor], parts: list[Tensor]) -> Callable[[], Tensor]:
    """Return a function that runs a forward and a backward pass, and gives the output."""

    def run() -> Tensor:
        for part in parts:
            part.grad = None
        found = attend(*parts)
        found.backward(torch.ones_like(found))  # type: ignore[no-untyped-call]
        return found

    return run


def bench_attention(name: str, rows: int) -> Figures:
    """Time one layer's attention in each way, on packed documents."""
    config, words, context = MODELS[name]
    heads, width = config.num_heads, config.hidden_size // config.num_heads
    positions = packed(np.random.default_rng(0), rows, context, words).positions_BT
    assert positions is not None
    positions = positions.to(DEVICE)
    shape = rows, heads, context, width
    torch.manual_seed(0)
    parts = [torch.randn(shape, device=DEVICE, dtype=KIND, requires_grad=True) for _ in range(3)]
    mask = borders(positions, flash=False).mask_B1TT
    masked = both_passes(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask), parts)
    found: Figures = {"attention_sdpa_mask_ms": 1000 * median_of(masked)}
    if not CUDA:
        return found
    starts = borders(positions, flash=True).cu_seq_lens
    assert starts is not None

    def varlen(cu: Tensor) -> Callable[..., Tensor]:
        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k, v = (part.transpose(1, 2).flatten(0, 1) for part in (q, k, v))
            out = varlen_attn(q, k, v, cu, cu, context, context, window_size=(-1, 0))
            assert isinstance(out, Tensor)
            return out.view(rows, context, heads, width).transpose(1, 2)

        return attend

    document = (positions == 0).cumsum(1)

    def same(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        del h
        return (q >= k) & (document[b, q] == document[b, k])

    block = create_block_mask(same, rows, None, context, context, device=DEVICE)
    compiled = torch.compile(flex_attention)
    flexible = both_passes(lambda q, k, v: compiled(q, k, v, block_mask=block), parts)
    ours = both_passes(varlen(starts), parts)
    found["attention_varlen_ms"] = 1000 * median_of(ours)
    found["attention_flex_ms"] = 1000 * median_of(flexible)
    found["attention_varlen_error"] = float((ours() - masked()).abs().max())
    total = positions.numel()
    short = starts[: int((starts < total).sum()) + 1]  # no document without tokens
    longer = torch.cat([starts, starts.new_full((512,), total)])
    plain, tailed = both_passes(varlen(short), parts), both_passes(varlen(longer), parts)
    found["tails_error"] = float((plain() - tailed()).abs().max())
    found["tails_ratio"] = median_of(tailed) / median_of(plain)
    return found


@contextmanager
def made(name: str, training: TrainingConfig) -> Iterator[Trainer]:
    """Yield a trainer, and give its RAM back."""
    config, words, _ = MODELS[name]
    yield Trainer(build_model(config, training, words, 0), training, 0)
    torch.compiler.reset()
    if CUDA:
        torch.cuda.empty_cache()


def speed(trainer: Trainer, batches: list[TokenBatch], steps: int) -> float:
    """Return the tokens a second of steps."""
    each = iter(range(10**6))
    spent = median_of(lambda: trainer.step(n := next(each), batches[n % len(batches)]), steps)
    return batches[0].tokens_BT.numel() / spent


def bench_training(name: str, tokens: int, steps: int) -> Figures:
    """Time whole steps in each way, and by the size of micro-batches."""
    _, words, context = MODELS[name]
    rng = np.random.default_rng(0)
    batches = [packed(rng, tokens // context, context, words) for _ in range(3)]
    base = TrainingConfig(
        context=context, batch_tokens=tokens, micro_batch=SWEEP[1], steps=1000, learning_rate=1e-4
    )
    found: Figures = {}
    for compiled in (False, True):
        with made(name, replace(base, compile=compiled)) as trainer:
            found[f"tokens_per_s_{'compiled' if compiled else 'eager'}"] = speed(
                trainer, batches, steps
            )
    with made(name, replace(base, precision="float32")) as trainer:  # with a mask, not borders
        found["tokens_per_s_float32"] = speed(trainer, batches, steps)
    for rows in SWEEP:
        if CUDA:
            torch.cuda.reset_peak_memory_stats()
        with made(name, replace(base, micro_batch=rows, compile=CUDA)) as trainer:
            found[f"tokens_per_s_micro_{rows}"] = speed(trainer, batches, steps)
        if CUDA:
            found[f"peak_gib_micro_{rows}"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def texts(count: int, words: int, context: int, seed: int) -> list[NDArray[np.int64]]:
    """Return documents of many lengths in which words follow each other by a rule, with noise."""
    rng = np.random.default_rng(seed)
    found = []
    for n in range(count):
        size = int(rng.integers(16, context))
        ruled = (np.arange(size) * (n % 7 + 1) + n) % (words // 4)
        found.append(np.where(rng.random(size) < n % 5 / 5, rng.integers(0, words, size), ruled))
    return found


def bench_rewards(name: str, docs: int) -> Figures:
    """Return how the forward estimator correlates with exact gradients, in each precision."""
    config, words, context = MODELS[name]
    training = TrainingConfig(context=context, micro_batch=4, batch_tokens=8 * context, warmup=5)
    trainer = Trainer(build_model(config, training, words, 0), training, 0)
    for step in range(10):
        read = texts(8, words, context, seed=step)
        trainer.step(step, padded_batch(read, [1] * len(read)))
    lm: LanguageModel = trainer.lm
    items = texts(8, words, context, seed=98)
    task = BatchedTask("rule", 1.0, (padded_batch(items, [1] * len(items)),))
    state = trainer.optimizer_state(10)
    directions = reference(lm, [task], state.second_moments(), 0.1, per_task=False).directions
    documents = texts(docs, words, context, seed=99)

    def asked(kind: str, **options: float) -> NDArray[np.float64]:
        section = ESTIMATOR_SECTIONS[kind](estimator=kind, batch_size=4)
        if isinstance(section, ForwardConfig):
            section = replace(section, epsilon=options["epsilon"])
        found = estimate(Question(lm, documents, directions, state, section)).reward_DN[0]
        return np.asarray(found, np.float64)

    exact, found = asked("gradient"), {}
    kinds: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
    for precision in kinds:
        for epsilon in EPSILONS:
            with lm.feedback_in(precision):
                agreed = np.corrcoef(asked("forward", epsilon=epsilon), exact)[0, 1]
            found[f"rewards_{precision}_{epsilon:g}"] = float(agreed)
    return found


def main() -> None:
    """Measure everything, and print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(MODELS), default="373m" if CUDA else "3m")
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", action="store_true", help="print one flat object as last line")
    options = parser.parse_args()
    steps = 3 if options.quick else 6
    figures: Figures = {}
    parts: tuple[Callable[[], Figures], ...] = (
        lambda: bench_attention(options.model, 16),
        lambda: bench_training(options.model, 65_536 if CUDA else 2_048, steps),
        lambda: bench_rewards(options.model, 16 if options.quick else 32),
    )
    for part in parts:
        found = part()
        for key, value in found.items():
            print(f"{key:28}{value:>14,.5g}", flush=True)
        figures |= found
    if options.json:
        print(json.dumps({key: float(f"{value:.6g}") for key, value in figures.items()}))


if __name__ == "__main__":
    main()

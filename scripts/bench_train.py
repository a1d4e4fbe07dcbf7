"""How fast training is, against the plainest correct PyTorch loop over the same model and batches.

    tokens_per_s          of optimizer steps on packed documents of mixed lengths
    ratio_vs_bare_loop    to a loop with transformers' own attention and full logits (goal 1.0)
    mfu                   6 N + 12 L d T flops a token, of what a matrix product reaches in this run
    feed_mtok_per_s_core  tokens a second that one core prepares as batches (goal 100)
    circle_overhead       of a run with feedback over the same steps on a fixed order: what rewards,
                          selection and evaluation add, at the demo's settings
    paper_overhead        the same from counted flops, at the paper's settings (goal 0.03)
    peak_gib              of the device, or of this process on a CPU

Steps of the two loops alternate, so a busy machine slows both. ``--model`` takes 3m, 124m, 373m or
1.3b; on a GPU training is in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from mads.annotate.annotate import annotate
from mads.config import ModelConfig, Recipe, TrainingConfig
from mads.demo.harvest import harvest
from mads.layout import RunDir
from mads.recipe import load_recipe
from mads.rewards.cost import STEP, Work, reward_flops
from mads.run.loop import train
from mads.run.records import Metrics, RoundRecord, StepRecord
from mads.run.watcher import Silent
from mads.store.store import Store
from mads.training.build import build_model, model_config
from mads.training.data import StretchData
from mads.training.model import NO_LABEL, TokenBatch
from mads.training.trainer import Trainer

SHAPES = {  # hidden, layers, heads, ffn, words, context
    "3m": (192, 3, 4, 512, 4_096, 256),
    "124m": (768, 12, 12, 2048, 32_000, 1024),
    "373m": (1024, 24, 8, 2816, 32_000, 1024),
    "1.3b": (2048, 24, 16, 5504, 32_000, 1024),
}
MODELS = {
    name: (ModelConfig(hidden_size=h, num_layers=n, num_heads=a, ffn_size=f), words, context)
    for name, (h, n, a, f, words, context) in SHAPES.items()
}
LENGTHS = (0.02, 0.1, 0.3, 1.0)  # of documents, in contexts


def packed(rng: np.random.Generator, sequences: int, context: int, words: int) -> TokenBatch:
    """Return sequences of documents of mixed lengths, with tokens at random."""
    places = np.empty((sequences, context), np.int64)
    for row in places:
        at = 0
        while at < context:
            size = min(max(int(context * rng.choice(LENGTHS)), 1), context - at)
            row[at : at + size] = np.arange(size)
            at += size
    tokens = torch.from_numpy(rng.integers(0, words, places.shape))
    positions = torch.from_numpy(places)
    labels = tokens.roll(-1, dims=1)
    labels[:, -1] = NO_LABEL
    labels[:, :-1][positions[:, 1:] == 0] = NO_LABEL
    return TokenBatch(tokens, labels, positions)


class BareLoop:
    """What a careful person writes in an hour."""

    def __init__(self, config: ModelConfig, training: TrainingConfig, words: int) -> None:
        torch.manual_seed(0)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        shape = model_config(config, words, training.context)
        assert isinstance(shape, LlamaConfig)
        model: nn.Module = LlamaForCausalLM(shape)
        self.model = model
        self.model.to(torch.device(self.device))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.size = training.micro_batch

    def step(self, batch: TokenBatch) -> None:
        """Take a step on a batch."""
        labels = batch.labels_BT.to(self.device)
        count = (labels != NO_LABEL).sum()
        for start in range(0, len(labels), self.size):
            rows = slice(start, start + self.size)
            assert batch.positions_BT is not None
            with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
                logits = self.model(
                    input_ids=batch.tokens_BT[rows].to(self.device),
                    position_ids=batch.positions_BT[rows].to(self.device),
                    use_cache=False,
                ).logits
            loss: Tensor = F.cross_entropy(
                logits.float().flatten(0, 1), labels[rows].flatten(), reduction="sum"
            )
            (loss / count).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def seconds(run: Callable[[], object]) -> float:
    """Return the time of one call, the device's work included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begun = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def matrix_flops(size: int) -> float:
    """Return the flops a second of a matrix product in the precision of training."""
    cuda = torch.cuda.is_available()
    kind = torch.bfloat16 if cuda else torch.float32
    one = torch.randn(size, size, device="cuda" if cuda else "cpu", dtype=kind)
    times = [seconds(lambda: one @ one) for _ in range(8)]
    return 2 * size**3 / min(times)


def bench_steps(name: str, training: TrainingConfig, repeats: int) -> dict[str, float]:
    """Time steps of both loops in turn."""
    config, words, context = MODELS[name]
    training = replace(training, context=context)
    trainer = Trainer(build_model(config, training, words, 0), training, 0)
    bare = BareLoop(config, training, words)
    rng = np.random.default_rng(0)
    sequences = training.batch_tokens // context
    ours, theirs = [], []
    for number in range(repeats + 2):
        batch = packed(rng, sequences, context, words)
        ours.append(seconds(lambda b=batch, n=number: trainer.step(n, b)))  # type: ignore[misc]
        theirs.append(seconds(lambda b=batch: bare.step(b)))  # type: ignore[misc]
    own, other = statistics.median(ours[2:]), statistics.median(theirs[2:])
    speed = training.batch_tokens / own
    count = sum(p.numel() for p in trainer.lm.model.parameters())
    flops = 6 * count + 12 * config.num_layers * config.hidden_size * context
    peak = matrix_flops(8192 if torch.cuda.is_available() else 1024)
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if torch.cuda.is_available():
        gib = torch.cuda.max_memory_allocated() / 2**30
    return {
        "parameters": float(count),
        "tokens_per_s": speed,
        "ratio_vs_bare_loop": other / own,
        "mfu": speed * flops / peak,
        "peak_gib": gib,
    }


def bench_feed(store: Store, context: int) -> float:
    """Return the million tokens a second that batches are made of, on this one thread."""
    docs = store.order.docs(np.arange(min(store.facts.documents.rows, 4000)))
    sizes = np.array([reader.length(row) for reader, row in map(store.tokens, docs.tolist())])
    count = int(sizes.sum()) // context // 16 * 16
    data = StretchData(store, docs, sizes.astype(np.int64), count, context, 0)
    spent = seconds(lambda: [data.batch(number, 16, True) for number in range(count // 16)])
    return count * context / spent / 1e6


def bench_circle(store: Store, work: Path, recipe: Recipe) -> float:
    """Return how much longer the circle takes than its own training steps do."""
    begun = time.perf_counter()
    train(store, work / "run", recipe, Silent())
    whole = time.perf_counter() - begun
    records = Metrics(RunDir(work / "run").metrics).read()
    stepping = sum(one.tokens / one.tokens_per_s for one in records if isinstance(one, StepRecord))
    assert any(isinstance(one, RoundRecord) and one.feedback for one in records)
    return whole / stepping - 1


def paper_overhead() -> float:
    """Return what the paper's feedback costs of its training, in flops: 1.3 B parameters.

    18,193 documents serve three agents (``bench_rewards.py``); three tasks have 500 items each, of
    a window at most, which is more than they have.
    """
    settings = load_recipe(Path("paper-1.3b"))
    window = settings.training.context
    work = Work(
        probes=18_193,
        probe_tokens=18_193 * window,
        directions=3,
        reference_tokens=3 * 500 * window,
        oracle_docs=settings.rewards.oracle_docs,
    )
    training = settings.training.update_every * settings.training.batch_tokens * STEP
    return reward_flops(settings.rewards.estimator, work) / training


def main() -> None:
    """Time everything, and print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ends within two minutes")
    parser.add_argument("--json", action="store_true", help="print one flat object as last line")
    parser.add_argument("--model", choices=sorted(MODELS), help="default: 3m, on a GPU 124m")
    options = parser.parse_args()
    name = options.model or ("124m" if torch.cuda.is_available() else "3m")
    cuda = torch.cuda.is_available()
    training = TrainingConfig(
        batch_tokens=65_536 if cuda else 4_096, micro_batch=16, steps=1000, learning_rate=1e-4
    )
    figures = bench_steps(name, training, 6 if options.quick else 20)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        harvest(work / "data")
        changes = [f"rewards.tasks.docs.path={work / 'data' / 'reference.jsonl'}"]
        if options.quick:
            changes += ["training.steps=60", "training.first_update=20", "training.update_every=20"]
        recipe = load_recipe(Path("demo"), changes)
        annotate([work / "data" / "corpus"], work / "store", recipe, lambda *_: None)
        store = Store(work / "store")
        figures["feed_mtok_per_s_core"] = bench_feed(store, MODELS[name][2])
        figures["circle_overhead"] = bench_circle(store, work, recipe)
        figures["paper_overhead"] = paper_overhead()
    for key, value in figures.items():
        print(f"{key:22}{value:>16,.4g}")
    if options.json:
        print(json.dumps({key: float(f"{value:.6g}") for key, value in figures.items()}))


if __name__ == "__main__":
    main()

"""How fast the pipeline is, each stage against a limit measured in the same run.

    annotate  against tokenising the same texts with the bare tokenizer in one process
    select    against DuckDB's ORDER BY score LIMIT over the same index
    train     against the same model fed one prepared batch again and again
    rewards   a document's reward, and a whole round of feedback with its reference gradients,
              each against training steps on as many tokens

``--quick`` uses the harvested corpus of the demo (11 MB), without it ../shared/data (205 MB).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from mads.config import Recipe
from mads.console import initial_state
from mads.console.scores import cell_scores
from mads.corpus.places import inside
from mads.corpus.readers.reader import RowFormat
from mads.corpus.rows import RowReader
from mads.demo.harvest import harvest
from mads.recipe import load_recipe
from mads.rewards.direction import reference
from mads.rewards.estimators import estimate
from mads.rewards.estimators.question import Question
from mads.rewards.measure import measure
from mads.selection.plan import Cursors, make_plan
from mads.selection.query import OrderReader
from mads.store.store import Store
from mads.tasks.task import make_task
from mads.training.build import build_model
from mads.training.data import StretchData
from mads.training.model import LanguageModel
from mads.training.task_loss import BatchedTask, batched
from mads.training.trainer import OptimizerState, Trainer

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Return the median time of one call."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def bench_annotate(corpus: Path, store: Path, recipe: str) -> dict[str, float]:
    """Time the whole `mads annotate` process, and the bare tokenizer on the same texts."""
    command = [sys.executable, "-m", "mads", "annotate", str(corpus), "--out", str(store)]
    begun = time.perf_counter()
    subprocess.run([*command, "--recipe", recipe, "--json"], check=True, stdout=subprocess.PIPE)
    seconds = time.perf_counter() - begun
    opened = Store(store)
    documents = opened.facts.documents
    batches = [
        batch.texts
        for file in opened.spec.files
        for batch in RowReader(inside(opened.spec.root, file.path), RowFormat()).batches(
            0, file.num_rows
        )
    ]
    limit = median_seconds(lambda: [opened.tokenizer.encode(texts) for texts in batches], 1)
    return {
        "annotate_docs_per_s": documents.rows / seconds,
        "annotate_mb_per_s": documents.text_bytes / 1e6 / seconds,
        "annotate_vs_tokenizer_ratio": seconds / limit,
    }


def bench_select(store: Store, recipe: Recipe) -> dict[str, float]:
    """Time a plan, a plan with its documents, and ORDER BY … LIMIT over the same index."""
    state = initial_state(store.cells.categories)
    rng = np.random.default_rng(0)
    weights = {a: {c: float(rng.uniform(0.5, 2)) for c in t} for a, t in state.weights.items()}
    score_C = cell_scores(store.cells, type(state)(1, weights, state.theta))
    cursors = Cursors.start(len(store.cells))
    budget = int(store.cells.num_tokens_C.sum()) // 10
    config = recipe.selection

    def plan() -> object:
        return make_plan(store.cells, score_C, cursors, budget, config, seed=1)

    def documents() -> object:
        with OrderReader.of(store, config) as order:
            return order.select(make_plan(store.cells, score_C, cursors, budget, config, seed=1))

    connection = duckdb.connect()
    table = {"cell": np.arange(len(score_C), dtype=np.uint32), "score": score_C}
    connection.register("scores", pa.table(table))
    count = int(store.cells.num_docs_C.sum()) // 10
    query = (
        "SELECT o.doc FROM read_parquet(?) o JOIN scores s ON o.cell = s.cell "
        "ORDER BY s.score DESC LIMIT ?"
    )

    def order_by() -> object:
        return connection.sql(query, params=[str(store.order.path), count]).to_arrow_table()

    listing = median_seconds(documents, 20)
    return {
        "select_plan_ms": 1000 * median_seconds(plan, 50),
        "select_documents_ms": 1000 * listing,
        "select_vs_order_by_ratio": listing / median_seconds(order_by, 20),
    }


def bench_train(store: Store, recipe: Recipe, steps: int) -> dict[str, float]:
    """Time optimizer steps from the store, the same on one prepared batch, and rewards."""
    training = recipe.training
    lm = build_model(recipe.model, training, store.tokenizer.vocab_size, seed=0)
    trainer = Trainer(lm, training, seed=0)
    sequences = training.batch_tokens // training.context
    plan = make_plan(
        store.cells,
        np.zeros(len(store.cells)),
        Cursors.start(len(store.cells)),
        3 * steps * training.batch_tokens,
        recipe.selection,
        seed=0,
    )
    with OrderReader.of(store, recipe.selection) as order:
        chosen = order.select(plan)
    num_sequences = chosen.num_tokens // training.context
    arguments = (chosen.doc_N, chosen.num_tokens_N, num_sequences, training.context, 0)
    data = StretchData(store, *arguments)
    prepared = data.batch(0, sequences, training.document_mask)
    count = 0

    def step() -> None:
        nonlocal count
        trainer.step(count, data.batch(count, sequences, training.document_mask))
        count += 1

    def bare() -> None:
        trainer.step(0, prepared)

    median_seconds(bare, 3)
    pairs = [(median_seconds(step, 1), median_seconds(bare, 1)) for _ in range(steps)]
    per_step = statistics.median(pair[0] for pair in pairs)
    (name, task), *_ = recipe.rewards.tasks.items()
    made = batched(make_task(name, task, store.tokenizer, training.context, seed=0), 8)
    state, rewards = trainer.optimizer_state(count), recipe.rewards
    target = reference(lm, [made], state.second_moments(), rewards.damping, per_task=False)
    windows = list(prepared.tokens_BT.numpy())
    question = Question(lm, windows, target.directions, state, rewards)
    measured = median_seconds(lambda: estimate(question), 5)
    per_bare = statistics.median(pair[1] for pair in pairs)
    seconds, tokens = bench_round(store, lm, state, [made], recipe)
    return {
        "train_tokens_per_s": training.batch_tokens / per_step,
        "train_vs_bare_ratio": statistics.median(a / b for a, b in pairs),
        "reward_cost_ratio": measured / per_bare,
        "reward_round_ratio": seconds / (per_bare * tokens / training.batch_tokens),
    }


def bench_round(
    store: Store, lm: LanguageModel, state: OptimizerState, tasks: list[BatchedTask], recipe: Recipe
) -> tuple[float, int]:
    """Return the seconds of a whole round of feedback and the tokens of its probed documents."""
    found = measure(store, lm, state, tasks, recipe.rewards, recipe.training.context, seed=0)
    return found.seconds, found.probe_tokens


def main() -> None:
    """Run the benchmark and print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes, the demo's corpus")
    parser.add_argument("--json", action="store_true", help="print one flat object as last line")
    options = parser.parse_args()
    if not options.quick and not SHARED.is_dir():
        parser.error(f"{SHARED} is not here; use --quick")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if options.quick:
            harvest(root / "data")
            corpus, name = root / "data" / "corpus", "demo"
            reference = root / "data" / "reference.jsonl"
            recipe = load_recipe(Path(name), [f"rewards.tasks.docs.path={reference}"])
        else:
            corpus, name = SHARED / "corpus", str(Path(__file__).with_name("redpajama.toml"))
            task = SHARED / "reference" / "lambada_validation.parquet"
            recipe = load_recipe(Path(name), [f"rewards.tasks.lambada.path={task}"])
        figures |= bench_annotate(corpus, root / "store", name)
        store = Store(root / "store")
        figures |= bench_select(store, recipe)
        figures |= bench_train(store, recipe, steps=15 if options.quick else 40)
    for key, value in figures.items():
        print(f"{key:32} {value:12,.3f}")
    if options.json:
        print(json.dumps({key: round(value, 4) for key, value in figures.items()}))


if __name__ == "__main__":
    main()

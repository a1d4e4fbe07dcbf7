"""What a selection costs, from a million documents to a hundred million.

Synthetic memories of three agents (5 x 7 x 13 categories) are indexed, and for each size the plan
is timed. At the largest size the whole `mads select` process for about a million documents is
measured against DuckDB's ORDER BY score LIMIT over the same memories, each in a process of its
own; at a million documents (fewer with --quick) against the published way, written anew here:
parse every JSON line, look up its weights, keep the best in a heap, and rewrite every line. What
a selection for every single optimizer step costs is compared with a step of the `small` recipe.

With --figure FILE.svg the cost is drawn against the corpus's size.
"""

from __future__ import annotations

import argparse
import heapq
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from synthetic import MEAN_TOKENS, write_store

from mads.config import Recipe, SelectionConfig
from mads.console.scores import cell_scores
from mads.recipe import load_recipe
from mads.selection.plan import Cursors, make_plan
from mads.selection.query import OrderReader
from mads.selection.rounds import select_round
from mads.store.store import Store
from mads.types import ConsoleState


def in_process(code: str, *arguments: object) -> tuple[float, float]:
    """Run Python code in a new process; return seconds and peak memory in MB."""
    command = [sys.executable, "-c", PEAK + code, *map(str, arguments)]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(done.stderr)
    return seconds, int(done.stderr.split()[-1]) / 1024


# Not getrusage, whose figure begins with that of the process that started this one.
PEAK = """
import atexit, sys
status = lambda: open("/proc/self/status").read()
atexit.register(lambda: print(status().split("VmHWM:")[1].split()[0], file=sys.stderr))
"""

INDEX = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from synthetic import index_store
index_store(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
"""

SELECT = """
import sys
from mads.__main__ import main
sys.argv = ["mads", "select", "--store", sys.argv[1], "--console", sys.argv[2], "--tokens",
            sys.argv[3], "--out", sys.argv[4], "--json", "--set", "selection.threads=2"]
main()
"""

ORDER_BY = """
import glob, json, sys
import duckdb, pyarrow as pa, pyarrow.parquet as pq
root, state, limit, out = sys.argv[1], json.load(open(sys.argv[2])), int(sys.argv[3]), sys.argv[4]
connection = duckdb.connect(config={"threads": 2})
for agent, table in state["weights"].items():
    values = [state["theta"][agent] * w for w in table.values()]
    rows = pa.table({"category": pa.array(range(len(values)), pa.uint16()), "s": values})
    connection.register("w_" + agent, rows)
first, *others = state["weights"]
files = lambda agent: f"read_parquet('{root}/memories/{agent}/*.parquet')"
scores = " + ".join(f"w_{a}.s" for a in state["weights"])
joins = " ".join(f"POSITIONAL JOIN {files(a)} AS {a}" for a in others)
tables = " ".join(f"JOIN w_{a} ON {a}.category = w_{a}.category" for a in state["weights"])
query = f"SELECT {first}.doc, {scores} AS score FROM {files(first)} AS {first} {joins} {tables}"
found = connection.sql(f"{query} ORDER BY score DESC LIMIT {limit}").to_arrow_table()
pq.write_table(found, out)
"""


def published_way(root: Path, state: ConsoleState, num_docs: int, keep: int) -> float:
    """Time one selection by parsing and rewriting JSON lines; only the selection is timed."""
    rng = np.random.default_rng(0)
    text = "word " * MEAN_TOKENS
    source, target = root / "in.jsonl", root / "out.jsonl"
    names = {a: list(table) for a, table in state.weights.items()}
    with source.open("w") as handle:
        for i in range(num_docs):
            labels = {a: n[int(rng.integers(len(n)))] for a, n in names.items()}
            handle.write(json.dumps({"id": i, "text": text, **labels, "used": 0}) + "\n")
    begun = time.perf_counter()
    heap: list[float] = []
    with source.open() as lines:
        for line in lines:
            row = json.loads(line)
            score = sum(state.theta[a] * state.weights[a][row[a]] for a in names)
            if len(heap) < keep:
                heapq.heappush(heap, score)
            else:
                heapq.heappushpop(heap, score)
    threshold = heap[0]
    with source.open() as lines, target.open("w") as out:
        for line in lines:
            row = json.loads(line)
            score = sum(state.theta[a] * state.weights[a][row[a]] for a in names)
            row["used"] += score >= threshold
            out.write(json.dumps(row) + "\n")
    return time.perf_counter() - begun


def median_ms(run: Callable[[], object], repeats: int = 30) -> float:
    """Return the median time of one call in milliseconds."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)


def plan_ms(store: Store, state: ConsoleState, tokens: int) -> float:
    """Return the time of one plan, scores and cursors included."""
    cursors = Cursors.start(len(store.cells))
    config = SelectionConfig()

    def run() -> object:
        return make_plan(store.cells, cell_scores(store.cells, state), cursors, tokens, config, 0)

    return median_ms(run)


def documents_ms(store: Store, state: ConsoleState, tokens: int) -> float:
    """Return the time of one plan and the list of its documents, on an open connection."""
    cursors, config = Cursors.start(len(store.cells)), SelectionConfig()
    cells = store.cells
    with OrderReader.of(store, config) as order:

        def run() -> object:
            plan = make_plan(cells, cell_scores(cells, state), cursors, tokens, config, 0)
            order.forget()
            return order.select(plan)

        return median_ms(run, repeats=10)


def step_list_ms(store: Store, state: ConsoleState, recipe: Recipe) -> float:
    """Return the time of one of a round's selections, one for each of its steps."""
    every_step = replace(recipe, selection=replace(recipe.selection, select_every=1))
    steps = recipe.training.update_every
    cursors, score_C = Cursors.start(len(store.cells)), cell_scores(store.cells, state)

    def run() -> object:
        return select_round(store, score_C, cursors, every_step, 0, (0, steps))

    return median_ms(run, repeats=3) / steps


def train_step_ms(recipe: Recipe) -> float:
    """Return the time of one optimizer step on random tokens."""
    import torch

    from mads.training.build import build_model
    from mads.training.model import TokenBatch
    from mads.training.trainer import Trainer

    config, size = recipe.training, recipe.tokenizer.vocab_size
    trainer = Trainer(build_model(recipe.model, config, size, seed=0), config, seed=0)
    rows = config.batch_tokens // config.context
    tokens_BT = torch.randint(size, (rows, config.context))
    positions_BT = torch.arange(config.context).expand(rows, -1)
    batch = TokenBatch(tokens_BT, tokens_BT, positions_BT if config.document_mask else None)
    trainer.step(0, batch)
    return median_ms(lambda: trainer.step(1, batch), repeats=5)


def bench_steps(store: Store, state: ConsoleState, figures: dict[str, float]) -> None:
    """Compare a plan, and a selection with its documents, with a training step."""
    recipe = load_recipe(Path("small"))
    figures["train_step_ms"] = step = train_step_ms(recipe)
    figures["plan_step_ratio"] = plan_ms(store, state, recipe.training.batch_tokens) / step
    figures["list_step_ratio"] = step_list_ms(store, state, recipe) / step


def make_state(store: Store) -> ConsoleState:
    """Return a console state with weights spread around 1."""
    rng = np.random.default_rng(0)
    weights = {
        agent: {name: float(w) for name, w in zip(names, spread(rng, len(names)), strict=True)}
        for agent, names in store.cells.categories.items()
    }
    return ConsoleState(1, weights, dict.fromkeys(weights, 1 / len(weights)))


def spread(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return positive weights around 1."""
    return rng.uniform(0.5, 2.0, count)


def size_name(num_docs: int) -> str:
    """Return 1m, 100m and so on."""
    return f"{num_docs // 10**6}m" if num_docs >= 10**6 else f"{num_docs // 1000}k"


def bench_size(root: Path, num_docs: int, figures: dict[str, float]) -> tuple[Store, ConsoleState]:
    """Make and index a store; time its plan."""
    write_store(root, num_docs)
    seconds, peak = in_process(INDEX, Path(__file__).parent, root, num_docs, "1GB")
    figures["index_rows_per_s"], figures["index_peak_mb"] = num_docs / seconds, peak
    store = Store(root)
    state = make_state(store)
    tokens = int(store.cells.num_tokens_C.sum()) // 100
    figures[f"plan_ms_{size_name(num_docs)}"] = plan_ms(store, state, tokens)
    figures[f"documents_ms_{size_name(num_docs)}"] = documents_ms(store, state, tokens)
    return store, state


def bench_process(root: Path, store: Store, state: ConsoleState, figures: dict[str, float]) -> None:
    """Time the whole process for about a million documents, and ORDER BY … LIMIT."""
    console = root / "console.json"
    value = {"round": 1, "theta": dict(state.theta), "weights": state.weights}
    console.write_text(json.dumps(value))
    docs = int(store.cells.num_docs_C.sum())
    wanted = min(10**6, docs // 10)
    tokens = int(store.cells.num_tokens_C.sum()) * wanted // docs
    seconds, peak = in_process(SELECT, root, console, tokens, root / "picked")
    other_s, other_mb = in_process(ORDER_BY, root, console, wanted, root / "ordered.parquet")
    picked = pq.read_metadata(root / "picked" / "selection.parquet").num_rows
    figures |= {
        "process_docs": picked,
        "process_s": seconds,
        "process_peak_mb": peak,
        "order_by_s": other_s,
        "order_by_peak_mb": other_mb,
        "ratio_vs_order_by": other_s / seconds,
        "memory_ratio_vs_order_by": other_mb / peak,
    }


def draw(figures: dict[str, float], sizes: list[int], jsonl: float, path: Path) -> None:
    """Draw plan time and the published way's time against the size, both axes logarithmic."""
    width, height, left, bottom = 640, 400, 80, 340
    low_ms, decades = 0.1, 9

    def x(docs: float) -> float:
        span = max(np.log10(sizes[-1] / sizes[0]), 1)
        return left + float(np.log10(docs / sizes[0]) / span) * (width - left - 170)

    def y(ms: float) -> float:
        return bottom - float(np.log10(ms / low_ms)) / decades * (bottom - 30)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<text x="80" y="20" font-size="14">One selection: time against documents</text>',
    ]
    for decade in range(decades + 1):
        ms = low_ms * 10**decade
        label = f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"
        lines.append(
            f'<line x1="{left}" x2="{width - 170}" y1="{y(ms)}" y2="{y(ms)}" stroke="#ddd"/>'
        )
        lines.append(f'<text x="{left - 8}" y="{y(ms) + 4}" text-anchor="end">{label}</text>')
    lines += [
        f'<text x="{x(docs)}" y="{bottom + 18}" text-anchor="middle">{size_name(docs)}</text>'
        for docs in sizes
    ]
    series = {
        "plan and documents": ([figures[f"documents_ms_{size_name(n)}"] for n in sizes], "#06c"),
        "mads plan": ([figures[f"plan_ms_{size_name(n)}"] for n in sizes], "#0a7"),
        "JSON lines, at its rate": ([1000 * n / jsonl for n in sizes], "#c33"),
    }
    for name, (values, colour) in series.items():
        points = " ".join(f"{x(n)},{y(v)}" for n, v in zip(sizes, values, strict=True))
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        lines.append(
            f'<text x="{x(sizes[-1]) + 8}" y="{y(values[-1]) + 4}" fill="{colour}">{name}</text>'
        )
    lines.append("</svg>")
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run the benchmark and print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes: up to 3 M documents")
    parser.add_argument("--json", action="store_true", help="print one flat object as last line")
    parser.add_argument("--figure", type=Path, help="draw the cost against the size (SVG)")
    options = parser.parse_args()
    sizes = [300_000, 3_000_000] if options.quick else [10**6, 10**7, 10**8]
    lines = 50_000 if options.quick else 10**6
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for size in sizes:
            store, state = bench_size(root / str(size), size, figures)
            if size == sizes[0]:
                bench_steps(store, state, figures)
        bench_process(root / str(sizes[-1]), store, state, figures)
        seconds = published_way(root, state, lines, lines // 10)
        figures["jsonl_rows_per_s"] = jsonl = lines / seconds
        # Its cost grows with the rows; the ratio is that of the smallest size, where its rate was
        # measured (with --quick on fewer rows), to our plan with the list of its documents.
        for key, name in (("documents", "ratio_vs_jsonl"), ("plan", "plan_ratio_vs_jsonl")):
            smallest = figures[f"{key}_ms_{size_name(sizes[0])}"] / 1000
            figures[name] = sizes[0] / jsonl / smallest
    for key, value in figures.items():
        print(f"{key:28} {value:14,.3f}")
    if options.figure:
        draw(figures, sizes, jsonl, options.figure)
    if options.json:
        print(json.dumps({key: round(value, 4) for key, value in figures.items()}))


if __name__ == "__main__":
    main()

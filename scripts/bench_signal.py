"""Which reward says what a mixture should hold? Candidates against the truth of a mixture.

The truth of a domain: from a checkpoint, K steps on the mixture with 30% of its sequences replaced
by the domain, minus K steps on the mixture itself, all else alike; the loss on the reference tasks
and on tasks that are never references apart (``mads/evaluation/category_truth.py``). Rewards of
sampled documents are measured at the same checkpoint, in several ways:

    answer      along the answers' loss of the reference tasks
    text        along the loss of their whole texts
    both        the two of them, standardised
    soft_min    the soft minimum over all tasks and both losses
    context     answer given its context minus answer alone: what contexts teach
    slices      along whole texts of held-out documents, the same number of every domain
    text_slices text and slices, standardised
    no_ends     text without embedding, head and last norm
    …_tokens    means over a domain's tokens instead of its documents
    …_full      of probes as long as a context alone, so that all domains' are of one length
    rehearsal   no reward: the truth itself with 5 steps and other data

For each the Spearman correlation of its domain means with the truth is given: on the references, on
the held-out tasks, and on both (each loss's change standardised), with its cost in training tokens.
``variance`` says what share of the variance of document rewards is repeatable over two windows of
a document, and how much of the variance domains, all agents' categories, clusters of documents and
a ridge regression on texts hold (``signal_variance.py``).

Everything that was made is kept in --work and used again. ``--quick`` trains a tiny model on a few
files: it shows that the benchmark runs, not which reward is right.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from bench_pipeline import SHARED
from bench_rewards import Quiet, corpus_files, silent, trainer_at
from numpy.typing import NDArray
from signal_variance import text_shares, unit, variance_shares

from mads.annotate.annotate import annotate
from mads.config import Recipe
from mads.evaluation.category_truth import MIXTURE, Category, Outcome, enriched, outcomes, rows_of
from mads.layout import RunDir
from mads.recipe import load_recipe, recipe_from_table, to_table
from mads.rewards.categories import Probes, category_rewards, choose_probes, equal_sizes
from mads.rewards.combine import combined
from mads.rewards.direction import Direction, preconditioned, reference_gradient
from mads.rewards.direction import norm as length_of
from mads.rewards.estimators import estimate
from mads.rewards.estimators.question import Question
from mads.rewards.measure import read_probes
from mads.rewards.ranks import spearman
from mads.run.loop import train
from mads.seeds import derive, shuffled
from mads.store.store import Store
from mads.tasks.task import Item, Task, by_objective, make_task
from mads.training.model import TokenBatch
from mads.training.task_loss import BatchedTask, batched
from mads.training.trainer import Trainer
from mads.types import Floats

SHARE = 0.3
HELD_OUT = {
    "arc-easy": "arc_easy.test",
    "arc-challenge": "arc_challenge.test",
    "openbookqa": "openbookqa.test",
    "commonsenseqa": "commonsenseqa.validation",
    "mathqa": "math_qa.test",
}
ENDS = ("embed_tokens", "lm_head", "model.norm")
REHEARSAL_STEPS = 5


@dataclass(frozen=True)
class Size:
    """How much is trained and measured."""

    model: dict[str, int]
    files: int  # corpus files of each domain; 0 = all
    steps: tuple[int, ...]  # checkpoints
    truth_steps: int
    seeds: int
    items: int  # of each task
    slice_docs: int  # of each domain
    per_category: int
    clusters: tuple[int, ...]
    cluster_docs: int  # to which they are fitted


FULL = Size(
    {"hidden_size": 192, "num_layers": 3, "num_heads": 4, "ffn_size": 512},
    *(0, (150, 400), 60, 2, 200, 12, 32, (256, 1024), 20_000),
)
QUICK = Size(
    {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "ffn_size": 176},
    *(1, (20,), 4, 1, 12, 4, 4, (4, 16), 400),
)


def make_recipe(size: Size) -> Recipe:
    """Return the recipe of a run on the corpus's own mixture that keeps its checkpoints."""
    table = to_table(load_recipe(Path(__file__).with_name("redpajama.toml")))
    table["tokenizer"]["vocab_size"] = 4096
    for name, task in table["rewards"]["tasks"].items():
        task["path"] = str(SHARED / "reference" / f"{name}_validation.parquet")
        task["num_examples"] = size.items
    table["evaluation"] = {}
    table["selection"]["policy"] = "random"
    table["model"] |= size.model
    table["training"] |= {
        "steps": size.steps[-1],
        "first_update": size.steps[-1],
        "checkpoint_every": size.steps[0] if size.steps[-1] % size.steps[0] == 0 else 50,
        "keep_checkpoints": 0,
        "schedule": "constant",
    }
    return recipe_from_table(table, "bench_signal")


def make_store(work: Path, recipe: Recipe, files: int) -> Store:
    """Return the store of the benchmark's corpus, or of some of its files."""
    annotate(corpus_files(files), work / "store", recipe, silent)
    return Store(work / "store")


def held_out(recipe: Recipe, store: Store) -> list[BatchedTask]:
    """Return the tasks that are never references."""
    config = next(iter(recipe.rewards.tasks.values()))
    found = []
    for name, file in HELD_OUT.items():
        path = str(SHARED / "evaluation" / f"{file}.jsonl.gz")
        task = replace(config, format="choices", path=path)
        made = make_task(name, task, store.tokenizer, recipe.training.context, 0)
        found.append(batched(made, 16))
    return found


def references(recipe: Recipe, store: Store) -> dict[str, list[BatchedTask]]:
    """Return the reference tasks by loss: of answers, whole texts, and answers without context."""
    found: dict[str, list[BatchedTask]] = {"answer": [], "text": [], "alone": []}
    for name, config in recipe.rewards.tasks.items():
        made = make_task(name, config, store.tokenizer, recipe.training.context, 0)
        answer, text = by_objective(made, "both")
        start = np.array([store.tokenizer.end_of_text])
        bare = tuple(
            Item(np.concatenate([start, item.tokens_T[item.num_context :]]), 1)
            for item in answer.items
        )
        alone = replace(answer, name=f"{name}-alone", items=bare)
        for kind, task in (("answer", answer), ("text", text), ("alone", alone)):
            found[kind].append(batched(task, 16))
    return found


def slices(recipe: Recipe, store: Store, docs: int) -> BatchedTask:
    """Return windows of documents of every domain as one task of whole texts."""
    context, items = recipe.training.context, []
    for name in store.cells.categories["domain"]:
        rows = rows_of(store, ("domain", name))
        order = shuffled(rows.astype(np.uint64), derive(1, "slices", name))[:docs]
        for doc in store.order.docs(np.sort(rows[order])).tolist():
            reader, row = store.tokens(doc)
            tokens = reader.row(row, 0, context)
            if len(tokens) > 1:
                items.append(Item(tokens, 1))
    items.sort(key=lambda item: len(item.tokens_T))
    return batched(Task("slices", 1.0, tuple(items), "text"), 16)


def directions_of(
    trainer: Trainer, tasks: Sequence[BatchedTask], step: int, without: Sequence[str] = ()
) -> tuple[list[Direction], Floats]:
    """Return each task's unit direction and its length before; some parameters may be left out."""
    moments = trainer.optimizer_state(step).second_moments()
    found, lengths = [], []
    for task in tasks:
        gradient, _ = reference_gradient(trainer.lm, task)
        part = preconditioned(gradient, moments, 0.1, trainer.lm.world)
        part = {
            name: value * (not any(end in name for end in without)) for name, value in part.items()
        }
        length = length_of(part, trainer.lm.world)
        unit = {name: value / length for name, value in part.items()}
        found.append(Direction(task.name, unit, 1.0, ((task, 1 / length),)))
        lengths.append(length)
    return found, np.array(lengths)


def measured(
    trainer: Trainer,
    directions: Sequence[Direction],
    windows: list[NDArray[np.int64]],
    recipe: Recipe,
    step: int,
) -> Floats:
    """Return the rewards of all windows along each direction."""
    state = trainer.optimizer_state(step)
    return estimate(Question(trainer.lm, windows, directions, state, recipe.rewards)).reward_DN


def candidates(
    trainer: Trainer,
    store: Store,
    recipe: Recipe,
    size: Size,
    step: int,
    windows: list[NDArray[np.int64]],
) -> tuple[dict[str, Floats], dict[str, float]]:
    """Return each candidate's rewards of the windows, and its cost in tokens of training."""
    tasks = references(recipe, store)
    rewards, lengths, cost = {}, {}, {}
    window_tokens = sum(len(window) for window in windows)
    for kind, group in (*tasks.items(), ("slices", [slices(recipe, store, size.slice_docs)])):
        found, lengths[kind] = directions_of(trainer, group, step)
        rewards[kind] = measured(trainer, found, windows, recipe, step)
        read = sum(int(b.tokens_BT.numel()) for task in group for b in task.batches)
        # A gradient is as dear as training on its tokens, two forward passes are two thirds.
        cost[kind] = read + 2 / 3 * window_tokens
    inner, _ = directions_of(trainer, tasks["text"], step, ENDS)
    rewards["no_ends"] = measured(trainer, inner, windows, recipe, step)

    def mix(*kinds: str, how: str = "standardised") -> Floats:
        parts = [combined(rewards[kind], np.ones(len(rewards[kind])), "mean") for kind in kinds]
        return combined(np.stack(parts), np.ones(len(parts)), how)

    every = np.concatenate([rewards["answer"], rewards["text"]])
    taught = lengths["answer"][:, None] * rewards["answer"]
    taught = taught - lengths["alone"][:, None] * rewards["alone"]
    found_by = {
        "answer": mix("answer"),
        "text": mix("text"),
        "both": mix("answer", "text"),
        "soft_min": combined(every, np.ones(len(every)), "soft_minimum"),
        "context": combined(taught, np.ones(len(taught)), "standardised"),
        "slices": mix("slices"),
        "text_slices": mix("text", "slices"),
        "no_ends": mix("no_ends"),
    }
    costs = {
        "both": cost["answer"] + cost["text"],
        "soft_min": cost["answer"] + cost["text"] + 8 / 3 * window_tokens,
        "context": cost["answer"] + cost["alone"] + 8 / 3 * window_tokens,
        "text_slices": cost["text"] + cost["slices"],
        "no_ends": cost["text"],
    }
    return found_by, {name: costs.get(name, cost.get(name, 0.0)) for name in found_by}


def richer(
    store: Store, recipe: Recipe, steps: int, seed: int, category: Category
) -> Iterator[TokenBatch]:
    """Return the batches of the mixture with more of a category."""
    config = recipe.training
    sizes = steps * config.batch_tokens, config.context, config.batch_tokens
    return enriched(store, category, SHARE, *sizes, seed)


def truths(
    work: Path, store: Store, recipe: Recipe, step: int, steps: int, seeds: range
) -> list[Outcome]:
    """Return the outcomes of richer mixtures, from --work where they are known."""
    found: list[Outcome] = []
    domains = [("domain", name) for name in store.cells.categories["domain"]]
    tasks = [*references(recipe, store)["answer"], *held_out(recipe, store)]
    for seed in seeds:
        path = work / f"truth-{step}-{steps}-{seed}.json"
        if not path.is_file():
            trainer = trainer_at(RunDir(work / "run"), step, recipe, store, step + steps)
            stream = partial(richer, store, recipe, steps, seed)
            made = []
            for outcome in outcomes(trainer, tasks, domains, [steps], step, stream, seed):
                made.append(asdict(outcome))
                print(f"  step {step} seed {seed} {outcome.category}", flush=True)
            path.write_text(json.dumps(made))
        found += [
            Outcome(**{**item, "category": tuple(item["category"])})
            for item in json.loads(path.read_text())
        ]
    return found


def truth_of(found: Sequence[Outcome], tasks: Sequence[str]) -> tuple[list[str], Floats]:
    """Return the domains, and what each lowers the tasks' mean loss, shape (seeds, domains)."""
    mean = {(o.category, o.seed): float(np.mean([o.losses[t] for t in tasks])) for o in found}
    seeds = sorted({seed for _, seed in mean})
    domains = [c for c in dict.fromkeys(o.category for o in found) if c != MIXTURE]
    rows = [[mean[MIXTURE, seed] - mean[domain, seed] for domain in domains] for seed in seeds]
    return [name for _, name in domains], np.array(rows)


def main() -> None:
    """Make what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny: shows that it runs")
    parser.add_argument("--json", action="store_true", help="print one flat object as last line")
    parser.add_argument("--work", type=Path, help="where to keep what was made")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    work = options.work or Path("build") / (
        "bench_signal_quick" if options.quick else "bench_signal"
    )
    recipe = make_recipe(size)
    store = make_store(work, recipe, size.files)
    train(store, work / "run", recipe, Quiet())
    figures: dict[str, float] = {}
    for step in size.steps:
        figures |= at_step(work, store, recipe, size, step)
    names = [key.rsplit("_", 1)[0] for key in figures if key.endswith("_both") and "spear" in key]
    for name in dict.fromkeys(name.split("_", 1)[1] for name in names):
        values = [figures[f"{step}_{name}_both"] for step in size.steps]
        figures[f"mixture_truth_{name}"] = float(np.mean(values))
    if options.json:
        print(json.dumps({key: round(value, 4) for key, value in figures.items()}))


def at_step(work: Path, store: Store, recipe: Recipe, size: Size, step: int) -> dict[str, float]:
    """Return the figures at one checkpoint, and print them."""
    found = truths(work, store, recipe, step, size.truth_steps, range(size.seeds))
    refs, held = list(recipe.rewards.tasks), list(HELD_OUT)
    domains, on_refs = truth_of(found, refs)
    _, on_held = truth_of(found, held)
    truth = {"refs": on_refs.mean(axis=0), "held": on_held.mean(axis=0)}
    truth["both"] = unit(truth["refs"]) + unit(truth["held"])
    print(f"\nstep {step}: what 30% more of a domain lowers, nats ({size.seeds} seeds)")
    for i, name in enumerate(domains):
        line = f"  {name:15}"
        for kind, values in (("refs", on_refs), ("held", on_held)):
            error = values[:, i].std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
            line += f"{truth[kind][i]:+8.3f} ±{error:.3f}"
        print(line)
    trainer = trainer_at(RunDir(work / "run"), step, recipe, store, 10**6)
    probes = choose_probes(store.cells, equal_sizes(store.cells, size.per_category), 5)
    seen, doc_N, windows = read_probes(store, probes, recipe.training.context, 5)
    by_reward, cost = candidates(trainer, store, recipe, size, step, windows)
    rehearsed = truths(work, store, recipe, step, REHEARSAL_STEPS, range(100, 101))
    means = {
        name: domain_means(store, seen, reward_N, domains) for name, reward_N in by_reward.items()
    }
    for name in ("answer", "both"):
        means |= {
            f"{name}_{kind}": domain_means(store, probes, reward_N, domains)
            for kind, (probes, reward_N) in by_length(store, seen, by_reward[name], windows).items()
        }
        cost |= {f"{name}_tokens": cost[name], f"{name}_full": cost[name]}
    means["rehearsal"] = truth_of(rehearsed, [*refs, *held])[1].mean(axis=0)
    training = recipe.training
    cost["rehearsal"] = float(REHEARSAL_STEPS * (len(domains) + 1) * training.batch_tokens)
    figures: dict[str, float] = {}
    print(f"{'Spearman with the truth':24}{'refs':>8}{'held':>8}{'both':>8}{'cost, steps':>14}")
    for name, mean in means.items():
        row = {kind: spearman(mean, values) for kind, values in truth.items()}
        figures |= {f"{step}_spearman_{name}_{kind}": value for kind, value in row.items()}
        figures[f"{step}_cost_{name}"] = cost[name] / training.batch_tokens
        cells = "".join(f"{value:8.2f}" for value in row.values())
        print(f"  {name:22}{cells}{figures[f'{step}_cost_{name}']:14.1f}", flush=True)
    agree = spearman(truth["refs"], truth["held"])
    figures[f"{step}_truth_refs_held"] = agree
    figures[f"{step}_truth_seeds"] = spearman(on_refs[0], on_refs[-1])
    print(f"  the two truths agree at {agree:.2f}")
    _, _, again = read_probes(store, probes, recipe.training.context, 6)
    second, _ = candidates(trainer, store, recipe, size, step, again)
    windows_of_two = by_reward["both"], second["both"]
    shares = variance_shares(store, doc_N, seen.cell_N, *windows_of_two)
    summed = unit(windows_of_two[0]) + unit(windows_of_two[1])
    shares |= text_shares(store, doc_N, summed, size.clusters, size.cluster_docs, work)
    figures |= {f"{step}_{name}": value for name, value in shares.items()}
    print("  variance: " + ", ".join(f"{name} {value:.2f}" for name, value in shares.items()))
    return figures


def by_length(
    store: Store, probes: Probes, reward_N: Floats, windows: list[NDArray[np.int64]]
) -> dict[str, tuple[Probes, Floats]]:
    """Return rewards weighted by documents' tokens, and those of windows of full length alone."""
    docs = store.order.docs(probes.row_N).tolist()
    length_N = np.array([reader.length(row) for reader, row in map(store.tokens, docs)])
    size_N = np.array([len(window) for window in windows])
    full = size_N == size_N.max()
    weighted = replace(probes, weight_N=probes.weight_N * length_N)
    alike = Probes(probes.cell_N[full], probes.row_N[full], probes.weight_N[full])
    return {"tokens": (weighted, reward_N), "full": (alike, reward_N[full])}


def domain_means(store: Store, probes: Probes, reward_N: Floats, domains: list[str]) -> Floats:
    """Return the mean reward of every domain."""
    found = category_rewards(store.cells, probes.cell_N, probes.weight_N, reward_N)["domain"]
    return np.array([found[name].mean for name in domains])


if __name__ == "__main__":
    main()

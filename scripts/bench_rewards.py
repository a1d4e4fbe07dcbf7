"""What a reward is worth and what it costs, on a model trained on ../shared/data.

    fidelity   every estimator against `one_step`, early and late in training: Pearson and Spearman
               over documents, and over category means
    cost       seconds per document, relative to a training step on as many tokens
    truth      category rewards against training on one category alone (scripts/category_truth.py):
               Spearman over all categories, with an interval over probe samples and truth seeds
    overhead   what the reward machinery costs of a training run at the paper's settings, from the
               measured ratios

Everything that was made is kept in --work and used again: the store, the trained run, the truth.
``--quick`` trains a small model for a few steps on a few files and leaves the truth out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
from bench_pipeline import SHARED, median_seconds
from numpy.typing import NDArray

from mads.annotate.annotate import annotate
from mads.config import Recipe, RewardsConfig
from mads.console.bayes import standardised
from mads.evaluation.category_truth import (
    MIXTURE,
    Outcome,
    alone,
    categories_of,
    outcomes,
    snapshot,
)
from mads.layout import RunDir
from mads.recipe import load_recipe, recipe_from_table, to_table
from mads.rewards.categories import (
    Probes,
    category_rewards,
    choose_probes,
    equal_sizes,
    sampling_counts,
)
from mads.rewards.direction import Reference, reference
from mads.rewards.estimators import ESTIMATORS, estimate
from mads.rewards.estimators.question import Measured, Question
from mads.rewards.measure import read_probes
from mads.rewards.moments import BATCHES, estimated_state
from mads.rewards.ranks import spearman
from mads.rewards.sections import ESTIMATOR_SECTIONS
from mads.run.loop import train
from mads.run.records import EndRecord, RoundRecord, StepRecord
from mads.seeds import derive
from mads.store.store import Store
from mads.tasks.task import make_task
from mads.training.build import build_model
from mads.training.checkpoint import latest_checkpoint, load_checkpoint
from mads.training.data import padded_batch
from mads.training.task_loss import BatchedTask, batched
from mads.training.trainer import Trainer
from mads.types import Cells, Floats

LARGE = {"hidden_size": 320, "num_layers": 5, "num_heads": 5, "ffn_size": 864}  # 11.5 M parameters
SMALL = {"hidden_size": 96, "num_layers": 2, "num_heads": 2, "ffn_size": 256}
TRUTH_STEPS = 10


class Quiet:
    """Prints one line now and then."""

    def step(self, record: StepRecord) -> None:
        """Print every fiftieth step."""
        if record.step % 50 == 0:
            print(f"  step {record.step}  loss {record.loss:.3f}", flush=True)

    def round(self, record: RoundRecord | EndRecord) -> None:
        """Say nothing of rounds."""

    def note(self, text: str) -> None:
        """Print a note."""
        print(f"  {text}", flush=True)


def silent(what: str, done: int, total: int) -> None:
    """Show no progress."""
    del what, done, total


def make_recipe(steps: Sequence[int], quick: bool) -> Recipe:
    """Return the `small` recipe with random selection, a larger model and kept checkpoints."""
    table = to_table(load_recipe(Path(__file__).with_name("redpajama.toml")))
    for name, task in table["rewards"]["tasks"].items():
        task["path"] = str(SHARED / "reference" / f"{name}_validation.parquet")
    table["evaluation"] = {}
    table["selection"]["policy"] = "random"
    table["model"] |= SMALL if quick else LARGE
    table["training"] |= {
        "steps": steps[-1],
        "first_update": steps[-1],
        "checkpoint_every": steps[0],
        "keep_checkpoints": 0,
        "learning_rate": 1e-3,
        "schedule": "constant",
    }
    return recipe_from_table(table, "bench_rewards")


def corpus_files(per_folder: int) -> list[Path]:
    """Return the files of the benchmark's corpus; 0 = all of each source."""
    folders = sorted(path for path in (SHARED / "corpus").iterdir() if path.is_dir())
    return [path for f in folders for path in sorted(f.glob("*.jsonl.zst"))[: per_folder or None]]


def trainer_at(run: RunDir, step: int, recipe: Recipe, store: Store, last: int) -> Trainer:
    """Return a trainer as it was after ``step`` steps; its learning rate falls to 0 at ``last``."""
    config = replace(
        recipe.training, schedule="wsd", warmup=0, steps=last, cooldown=max(last - step, 1)
    )
    lm = build_model(recipe.model, config, store.tokenizer.vocab_size, seed=0)
    trainer = Trainer(lm, config, seed=0)
    # `load_checkpoint` reads the latest, so the wanted one stands alone in a folder of its own.
    alone = RunDir(run.root.with_name(f"{run.root.name}-at-{step}"))
    source = run.checkpoint(step)
    if not alone.latest.is_file():
        alone.latest.parent.mkdir(parents=True, exist_ok=True)
        (alone.latest.parent / source.name).symlink_to(source.absolute())
        alone.latest.write_text(source.name + "\n")
    saved = latest_checkpoint(alone)
    assert saved is not None
    load_checkpoint(alone, saved, trainer)
    return trainer


def estimated_by(config: RewardsConfig, estimator: str) -> RewardsConfig:
    """Return the rewards' section with another estimator and its defaults."""
    common = {f.name: getattr(config, f.name) for f in fields(RewardsConfig)}
    return ESTIMATOR_SECTIONS[estimator](**common | {"estimator": estimator})


def tasks_of(recipe: Recipe, store: Store, examples: int) -> list[BatchedTask]:
    """Return the reference tasks with ``examples`` items each."""
    context, size = recipe.training.context, recipe.rewards.batch_size
    tokenizer = store.tokenizer
    return [
        batched(make_task(name, replace(task, num_examples=examples), tokenizer, context, 0), size)
        for name, task in recipe.rewards.tasks.items()
    ]


def sample(
    store: Store, per_category: int, context: int, seed: int
) -> tuple[Probes, list[NDArray[np.int64]]]:
    """Return probes and one window of each."""
    wanted = equal_sizes(store.cells, per_category)
    probes = choose_probes(store.cells, wanted, seed)
    found, _, windows = read_probes(store, probes, context, seed)
    return found, windows


def pearson(one: Floats, two: Floats) -> float:
    """Return the correlation of two lists."""
    return float(np.corrcoef(one, two)[0, 1])


def means(cells: Cells, probes: Probes, reward_N: Floats) -> dict[tuple[str, str], float]:
    """Return the mean reward of every probed category."""
    found = category_rewards(cells, probes.cell_N, probes.weight_N, reward_N)
    return {(a, name): r.mean for a, table in found.items() for name, r in table.items()}


def rewards_of(target: Reference, measured: Measured) -> Floats:
    """Return the rewards of all tasks together."""
    total: Floats = np.array([d.weight for d in target.directions]) @ measured.reward_DN
    return total


def bench_fidelity(
    store: Store, trainer: Trainer, recipe: Recipe, step: int, num_docs: int
) -> dict[str, float]:
    """Return every estimator's agreement with `one_step` and `gradient`, and its cost."""
    config = replace(recipe.rewards, per_task=False)
    tasks = tasks_of(recipe, store, 16)
    state = trainer.optimizer_state(step)
    moments = state.second_moments()
    target = reference(trainer.lm, tasks, moments, config.damping, per_task=False)
    per_category = max(num_docs // 20, 2)
    probes, windows = sample(store, per_category, recipe.training.context, seed=7)
    chosen = np.linspace(0, len(windows) - 1, min(num_docs, len(windows))).astype(int)
    probes = Probes(probes.cell_N[chosen], probes.row_N[chosen], probes.weight_N[chosen])
    windows = [windows[i] for i in chosen]
    found, cost = {}, {}
    for name in ESTIMATORS:
        chosen_config = estimated_by(config, name)
        question = Question(trainer.lm, windows, target.directions, state, chosen_config)
        begun = time.perf_counter()
        found[name] = rewards_of(target, estimate(question))
        cost[name] = time.perf_counter() - begun
    # What `mads step` does for a checkpoint without its optimizer's state.
    read = [padded_batch(windows[i : i + 8], [1] * 8) for i in range(0, len(windows) - 7, 8)]
    guessed = estimated_state(trainer.lm, read[:BATCHES], recipe.training, state.learning_rate)
    other = reference(trainer.lm, tasks, guessed.second_moments(), config.damping, per_task=False)
    asked = Question(
        trainer.lm, windows, other.directions, guessed, estimated_by(config, "forward")
    )
    without = rewards_of(other, estimate(asked))
    limit = step_seconds(trainer, windows)
    figures = {f"{name}_cost_ratio": spent / limit for name, spent in cost.items()}
    truth = means(store.cells, probes, found["one_step"])
    for name, reward_N in found.items():
        if name == "one_step":
            continue
        figures[f"{name}_vs_one_step_pearson"] = pearson(reward_N, found["one_step"])
        figures[f"{name}_vs_one_step_spearman"] = spearman(reward_N, found["one_step"])
        category = means(store.cells, probes, reward_N)
        pairs = np.array([[category[key], truth[key]] for key in truth])
        figures[f"{name}_vs_one_step_category_pearson"] = pearson(pairs[:, 0], pairs[:, 1])
    figures["estimated_moments_pearson"] = pearson(without, found["forward"])
    figures["estimated_moments_spearman"] = spearman(without, found["forward"])
    pairs = np.array(
        [list(means(store.cells, probes, r).values()) for r in (without, found["forward"])]
    )
    figures["estimated_moments_category_pearson"] = pearson(pairs[0], pairs[1])
    figures["forward_vs_gradient_pearson"] = pearson(found["forward"], found["gradient"])
    return figures


def step_seconds(trainer: Trainer, windows: list[NDArray[np.int64]]) -> float:
    """Return the seconds of training (forward, backward, update) on these windows.

    Documents of like length stand together, as the estimators read them.
    """
    restore = snapshot(trainer)
    order = sorted(windows, key=len)
    batches = [order[i : i + 8] for i in range(0, len(order), 8)]

    def run() -> None:
        for number, group in enumerate(batches):
            trainer.step(number, padded_batch(group, [1] * len(group)))

    spent = median_seconds(run, 3)
    restore()
    return spent


def truths(
    store: Store, run: RunDir, recipe: Recipe, step: int, seeds: Sequence[int], work: Path
) -> list[Outcome]:
    """Return the outcomes of training on each category, from --work where they are known."""
    found: list[Outcome] = []
    training = recipe.training
    for seed in seeds:
        path = work / f"truth-{step}-{TRUTH_STEPS}-{seed}.json"
        if not path.is_file():
            trainer = trainer_at(run, step, recipe, store, step + TRUTH_STEPS)
            tasks = tasks_of(recipe, store, 100)
            begun = time.perf_counter()
            made = []
            tokens = TRUTH_STEPS * training.batch_tokens
            sizes = tokens, training.context, training.batch_tokens, seed
            for outcome in outcomes(
                trainer,
                tasks,
                categories_of(store, least_docs=100),
                [TRUTH_STEPS],
                step,
                lambda category, sizes=sizes: alone(store, category, *sizes),  # type: ignore[misc]
                seed,
            ):
                made.append(asdict(outcome))
                spent = time.perf_counter() - begun
                print(f"  truth {seed} {outcome.category} {spent:.0f} s", flush=True)
            path.write_text(json.dumps(made))
        found += [
            Outcome(**{**item, "category": tuple(item["category"])})
            for item in json.loads(path.read_text())
        ]
    return found


def truth_of(found: Sequence[Outcome], weights: dict[str, float]) -> dict[tuple[str, str], float]:
    """Return each category's truth, the mean over seeds, tasks weighted as the rewards are."""

    def loss(outcome: Outcome) -> float:
        return sum(weights[name] * value for name, value in outcome.losses.items())

    mixture = {o.seed: loss(o) for o in found if o.category == MIXTURE}
    values: dict[tuple[str, str], list[float]] = {}
    for outcome in found:
        if outcome.category != MIXTURE:
            values.setdefault(outcome.category, []).append(mixture[outcome.seed] - loss(outcome))
    return {category: statistics.fmean(v) for category, v in values.items()}


def sampled(
    store: Store, run: RunDir, recipe: Recipe, step: int, work: Path, samples: int
) -> tuple[dict[str, float], list[tuple[Probes, Floats]]]:
    """Return what a nat of each task counts, and probe samples with their rewards."""
    trainer = trainer_at(run, step, recipe, store, 10**6)
    state, tasks = trainer.optimizer_state(step), tasks_of(recipe, store, 100)
    moments, damping = state.second_moments(), recipe.rewards.damping
    target = reference(trainer.lm, tasks, moments, damping, per_task=True)
    found = []
    for number in range(samples):
        seed = derive(0, "sample", number)
        probes, windows = sample(store, 32, recipe.training.context, seed)
        path = work / f"rewards-{step}-{number}.npy"
        if not path.is_file():
            question = Question(trainer.lm, windows, target.directions, state, recipe.rewards)
            np.save(path, rewards_of(target, estimate(question)))
            print(f"  rewards {number + 1} of {samples}", flush=True)
        found.append((probes, np.load(path)))
    shares = {d.name: d.weight * d.parts[0][1] for d in target.directions}
    return {name: share / sum(shares.values()) for name, share in shares.items()}, found


def bench_truth(
    store: Store, run: RunDir, recipe: Recipe, step: int, work: Path, seeds: int, samples: int
) -> dict[str, float]:
    """Return the Spearman correlation of category rewards with the truth, and its interval.

    ``…_bayes`` takes the rewards as the rule `bayes` does: with outliers drawn in.
    """
    found = truths(store, run, recipe, step, range(seeds), work)
    shares, drawn_samples = sampled(store, run, recipe, step, work, samples)
    per_sample = [means(store.cells, probes, reward_N) for probes, reward_N in drawn_samples]
    truth = truth_of(found, shares)
    keys = [key for key in truth if all(key in row for row in per_sample)]
    true = np.array([truth[key] for key in keys])
    mean = np.array([[row[key] for key in keys] for row in per_sample])
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(1000):
        rows = mean[rng.integers(0, samples, samples)].mean(axis=0)
        chosen = rng.integers(0, seeds, seeds)
        again = truth_of(
            [
                replace(outcome, seed=place)
                for place, seed in enumerate(chosen)
                for outcome in found
                if outcome.seed == seed
            ],
            shares,
        )
        drawn.append(spearman(rows, np.array([again[key] for key in keys])))
    singles = [spearman(row, true) for row in mean]
    by_seed = [truth_of([o for o in found if o.seed == s], shares) for s in range(seeds)]
    robust = [means(store.cells, probes, standardised(values)) for probes, values in drawn_samples]
    robust_mean = np.array([[row[key] for key in keys] for row in robust]).mean(axis=0)
    figures = {
        "category_truth_spearman_bayes": spearman(robust_mean, true),
        "category_truth_spearman": spearman(mean.mean(axis=0), true),
        "category_truth_spearman_low": float(np.quantile(drawn, 0.025)),
        "category_truth_spearman_high": float(np.quantile(drawn, 0.975)),
        "category_truth_spearman_one_sample": statistics.fmean(singles),
        "category_truth_categories": float(len(keys)),
    }
    if seeds > 1:
        pairs = [np.array([row[key] for key in keys]) for row in by_seed[:2]]
        figures["category_truth_seed_spearman"] = spearman(pairs[0], pairs[1])
    rows = sorted(zip(keys, mean.mean(axis=0), true, strict=True), key=lambda row: -row[2])
    for key, reward, value in rows:
        print(f"  {'/'.join(key):36} reward {reward:9.4f}   truth {value:9.4f}")
    return figures


def overhead(cells: Cells, ratio: float) -> dict[str, float]:
    """Return the share of training that rewards cost at the paper's settings.

    10,000 documents for each agent, uniform over its categories, of at most 1,024 tokens each;
    one sample serves all agents. Three tasks take three times one direction's probes, and 3 x 500
    reference items of at most 1,024 tokens a training step's time. All that once per 1,500 steps
    of 4 * 2^20 tokens. The corpus is taken a thousand times larger than it is here.
    """
    wanted = {a: np.full(len(n), 10_000 / len(n)) for a, n in cells.categories.items()}
    large = replace(cells, num_docs_C=cells.num_docs_C * 1000)
    num_docs = float(sampling_counts(large, wanted).sum())
    tokens = num_docs * 1024 * ratio * 3 + 3 * 500 * 1024
    return {"overhead_docs": num_docs, "overhead_share": tokens / (1500 * 4 * 2**20)}


def main() -> None:
    """Run the benchmark and print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small model, few files, no truth")
    parser.add_argument("--json", action="store_true", help="print one flat object as last line")
    parser.add_argument("--work", type=Path, default=Path("build/bench_rewards"))
    parser.add_argument("--steps", type=int, nargs=2, help="of the early and the late checkpoint")
    parser.add_argument("--docs", type=int, help="compared; 200, or 40 with --quick")
    parser.add_argument("--truth-seeds", type=int, default=2)
    parser.add_argument("--part", choices=("all", "fidelity", "truth"), default="all")
    parser.add_argument("--samples", type=int, default=3, help="probe samples of the truth")
    options = parser.parse_args()
    if not SHARED.is_dir():
        parser.error(f"{SHARED} is not here; this benchmark needs it")
    steps = options.steps or ([10, 20] if options.quick else [100, 300])
    recipe = make_recipe(steps, options.quick)
    work = options.work / ("quick" if options.quick else "full")
    work.mkdir(parents=True, exist_ok=True)
    place = work / "store" if options.quick else options.work / "store"
    annotate(corpus_files(1 if options.quick else 0), place, recipe, silent)
    store = Store(place)
    run = RunDir(work / "run")
    train(store, run.root, recipe, Quiet())
    figures: dict[str, float] = {}
    docs = options.docs or (40 if options.quick else 200)
    for label, step in zip(("early", "late"), steps, strict=True):
        if options.part == "truth":
            continue
        trainer = trainer_at(run, step, recipe, store, 10**6)
        found = bench_fidelity(store, trainer, recipe, step, docs)
        figures |= {f"{key}_{label}": value for key, value in found.items()}
        if label == "late":
            figures |= found
    if options.part != "truth":
        figures |= overhead(store.cells, figures["forward_cost_ratio"])
    if not options.quick and options.part != "fidelity":
        figures |= bench_truth(
            store, run, recipe, steps[1], work, options.truth_seeds, options.samples
        )
    for key, value in figures.items():
        print(f"{key:48} {value:10.4f}")
    if options.json:
        print(json.dumps({key: round(value, 4) for key, value in figures.items()}))


if __name__ == "__main__":
    main()

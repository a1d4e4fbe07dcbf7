"""The arms of a comparison: one base recipe, and what each arm changes of it.

    base = "recipe.toml"
    baseline = "natural"
    [arms.natural]
    set = ["selection.policy=random"]

Arms may differ in what they read, and in nothing that would make their losses incomparable.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mads.codec import build
from mads.config import LARGEST_SEED, Recipe
from mads.errors import MadsError, UsageError, did_you_mean
from mads.files import reason_of
from mads.recipe import SHIPPED, bad_names, load_recipe, shipped_recipes, to_table
from mads.run.folder import differences
from mads.run.ready import started
from mads.run.schedule import strategy_name
from mads.store.store import Store
from mads.strategies import STRATEGIES
from mads.strategies.strategy import Evidence
from mads.tasks.formats import load_examples
from mads.units import parse_digits, parse_numbers, shorten

EXAMPLE = '[arms.natural] with set = ["selection.policy=random"]'


@dataclass(frozen=True, slots=True)
class ArmSection:
    """What an arm changes of the base recipe, each as after ``--set``."""

    set: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ArmsFile:
    """ARMS.toml."""

    base: str  # a recipe file, whose path counts from this one, or the name of a shipped recipe
    baseline: str  # the arm that the others are compared with
    arms: dict[str, ArmSection] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Arms:
    """Arms that can be compared, each with its whole recipe but for the seed, which is 0."""

    baseline: str
    recipes: Mapping[str, Recipe]

    def recipe(self, arm: str, seed: int) -> Recipe:
        """Return the recipe of one of an arm's runs."""
        return replace(self.recipes[arm], seed=seed)

    @property
    def tokens(self) -> int:
        """How many tokens a run reads."""
        return _num_tokens(self.recipes[self.baseline])


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of ``3`` (that many: 0, 1, 2) or of a list such as ``0,5,7``.

    Raises UsageError. A list of one is ``7,``.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and not parts[-1]:
        parts.pop()
    if "," not in text:
        count = parse_digits(text.strip())
        if count is None or not 1 <= count <= 1000:
            raise UsageError(f"--seeds {shorten(text)}: expected 1 to 1000, or a list: 0,1,2.")
        return tuple(range(count))
    seeds = parse_numbers(parts, LARGEST_SEED)
    if seeds is None:
        raise UsageError(f"--seeds {shorten(text)}: expected different whole numbers, as in 0,1,2.")
    return seeds


def read_arms(path: Path) -> Arms:
    """Read ARMS.toml; raises UsageError that lists all that is wrong with it and its arms."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"arms {path} cannot be read: {reason_of(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"arms {path} is not valid TOML: {error}") from error
    problems: list[str] = []
    found = build(ArmsFile, table, "", problems)
    if isinstance(found, ArmsFile):
        problems += _flaws(found)
    arms = Arms("", {})
    if isinstance(found, ArmsFile) and found.arms:
        recipes = _recipes(path, found, problems)
        arms = Arms(found.baseline, recipes)
        problems += _unlike(found.baseline, recipes)
    _refuse(f"{path}", problems)
    return arms


def check_arms(arms: Arms, store: Store) -> None:
    """Raise UsageError that lists which arms cannot be trained on a store, before any is."""
    problems = []
    for arm, recipe in arms.recipes.items():
        kind = STRATEGIES[strategy_name(recipe)]
        if kind.needs is Evidence.DOCUMENT_REWARDS and not recipe.rewards.tasks:
            problems.append(
                f"arms.{arm}: the strategy {kind.name!r} needs a reference task; add a "
                "[rewards.tasks.NAME] section to the base recipe"
            )
        try:
            started(store.cells, recipe)
        except MadsError as error:
            problems.append(f"arms.{arm}: {error}")
    one = arms.recipes[arms.baseline]
    tasks = {**one.rewards.tasks, **one.evaluation.tasks}
    if not tasks:
        problems.append(
            "base: it has no task to compare losses on; add [rewards.tasks.NAME] or "
            "[evaluation.tasks.NAME]"
        )
    for name, task in tasks.items():
        try:
            load_examples(name, task, one.evaluation.seed)
        except MadsError as error:
            problems.append(f"base: {error}")
    _refuse("the arms", problems)


def _refuse(where: str, problems: Sequence[str]) -> None:
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise UsageError(f"{where}: {len(problems)} problem(s) in the comparison:\n{lines}")


def _flaws(found: ArmsFile) -> list[str]:
    """Return what is wrong with an ARMS.toml by itself."""
    if not found.arms:
        return [f"arms: there is none; add {EXAMPLE}, say"]
    problems = bad_names("arms", found.arms)
    if found.baseline not in found.arms:
        near = did_you_mean(found.baseline, found.arms)
        problems.append(f"baseline: {shorten(found.baseline)} is no arm; {near}")
    return problems + [
        f"arms.{name}: {shorten(text)} sets the seed; --seeds does, for all arms alike"
        for name, arm in found.arms.items()
        for text in arm.set
        if text.partition("=")[0].strip() == "seed"
    ]


def _recipes(path: Path, found: ArmsFile, problems: list[str]) -> dict[str, Recipe]:
    """Return the recipes that can be read; what is wrong with the others is appended."""
    base = path.parent / found.base
    if not base.is_file() and found.base in shipped_recipes():
        base = SHIPPED / f"{found.base}.toml"
    try:
        load_recipe(base)
    except MadsError as error:
        problems.append(f"base: {_indented(error)}")
        return {}
    recipes = {}
    for name, arm in found.arms.items():
        try:
            recipe = load_recipe(base, [_from(path.parent, text) for text in arm.set])
            recipes[name] = replace(recipe, seed=0)
        except MadsError as error:
            problems.append(f"arms.{name}: {_indented(error)}")
    return recipes


def _indented(error: MadsError) -> str:
    return str(error).replace("\n", "\n    ")


def _from(folder: Path, text: str) -> str:
    """Return an override whose path, if it is one, counts from the folder of ARMS.toml."""
    key, _, value = text.partition("=")
    near = folder / value.strip().strip("\"'")
    if key.strip().rpartition(".")[2] not in ("path", "prior_file") or not near.is_file():
        return text
    return f"{key}={near.absolute()}"


def _unlike(baseline: str, recipes: Mapping[str, Recipe]) -> Iterable[str]:
    """Return how arms differ from the baseline where they may not."""
    if baseline not in recipes:
        return []
    other = recipes[baseline]
    problems = []
    for name, recipe in recipes.items():
        if _num_tokens(recipe) != _num_tokens(other):
            problems.append(
                f"arms.{name}: it reads {_tokens(recipe)}, but {baseline} reads "
                f"{_tokens(other)}. Give all arms as many tokens"
            )
        problems += [
            f"arms.{name}: {change} (from {baseline}). Losses are compared between like models on "
            "like items only; set it in the base recipe, for all arms"
            for change in differences(_judged(other), _judged(recipe))
        ]
    return problems


def _num_tokens(recipe: Recipe) -> int:
    return recipe.training.steps * recipe.training.batch_tokens


def _tokens(recipe: Recipe) -> str:
    training = recipe.training
    return (
        f"{_num_tokens(recipe):,} tokens (training.steps {training.steps:,} x "
        f"training.batch_tokens {training.batch_tokens:,})"
    )


def _judged(recipe: Recipe) -> dict[str, Any]:
    """Return what of a recipe decides what losses mean: the model, the items and their length."""
    tasks = {name: to_table(task) for name, task in recipe.rewards.tasks.items()}
    for task in tasks.values():
        del task["weight"], task["objective"]  # they say how rewards are combined
    return {
        "model": to_table(recipe.model),
        "tokenizer": to_table(recipe.tokenizer),
        "training": {"context": recipe.training.context},
        "rewards": {"tasks": tasks},
        "evaluation": to_table(recipe.evaluation),
    }

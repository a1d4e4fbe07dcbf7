"""Reading and writing recipes: one TOML file, checked as a whole.

A recipe is strict. Every unknown key, wrong type and impossible value is reported at once, each
with its place and, for a misspelt key, the nearest known one. ``--set section.key=value`` changes
a value before the check; the value is TOML (``true``, ``3e-4``, ``["a", "b"]``) or a bare string.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from mads.agents import BACKEND_SECTIONS
from mads.annotate.executors import EXECUTORS
from mads.codec import Choice, Within, build, convert
from mads.config import (
    DEFAULT_AGENTS,
    RESERVED_NAMES,
    AgentConfig,
    ConsoleConfig,
    Prior,
    Recipe,
    RewardsConfig,
    TaskConfig,
)
from mads.console import RULE_SECTIONS
from mads.errors import UsageError, did_you_mean
from mads.files import SEAL, read_sealed_json
from mads.rewards.sections import ESTIMATOR_SECTIONS
from mads.selection.bounds import SUM_TOLERANCE
from mads.selection.policies import POLICIES
from mads.strategies import STRATEGIES
from mads.strategies.console import Console
from mads.strategies.mixture import Mixture
from mads.strategies.published import PUBLISHED, published
from mads.tasks.formats import FORMATS
from mads.tasks.task import text_name

T = TypeVar("T", bound=TaskConfig)
SHIPPED = Path(__file__).parent / "recipes"
Factors = dict[str, Annotated[float, Within(-1e6, 1e6)]]
"""Agent -> θ."""
_MAX_NAME = 64
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")
_LONG_NUMBER = re.compile(r"[0-9][0-9_]{4000,}")  # Python reads 4,300 digits at most

CHOICES: Mapping[type[Any], Choice] = {
    AgentConfig: Choice("backend", "fasttext", BACKEND_SECTIONS),
    ConsoleConfig: Choice("rule", "bayes", RULE_SECTIONS),
    RewardsConfig: Choice("estimator", "forward", ESTIMATOR_SECTIONS),
}

_NAMES: Mapping[str, Mapping[str, object]] = {
    "strategy": STRATEGIES,
    "selection.policy": POLICIES,
    "corpus.executor": EXECUTORS,
}
"""Keys that name an entry of a registry."""


def load_recipe(path: Path | None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe (a file, or the name of a shipped one) and apply ``key=value`` overrides.

    Raises UsageError that lists every problem at once.
    """
    table: dict[str, Any] = {}
    where, base = "the command line", None
    if path is not None:
        where = str(path)
        table, base = _read_toml(path)
    for text in overrides:
        _apply_override(table, text)
    return recipe_from_table(table, where, base)


def shipped_recipes() -> list[str]:
    """Return the names of the recipes inside the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def _read_toml(path: Path) -> tuple[dict[str, Any], Path]:
    """Return a recipe's table, and the folder from which its paths count."""
    file = path
    if not path.is_file():
        file = SHIPPED / f"{path.name.removesuffix('.toml')}.toml"
        if path.name != str(path) or not file.is_file():
            raise UsageError(
                f"recipe {str(path)!r} does not exist. Give a TOML file or a shipped recipe: "
                f"{', '.join(shipped_recipes())}."
            )
    text = ""
    try:
        text = file.read_text(encoding="utf-8")
        return tomllib.loads(text), file.parent
    except (ValueError, RecursionError) as error:
        raise UsageError(f"recipe {path} is not valid TOML: {_flaw(text, error)}") from error


def _flaw(text: str, error: Exception) -> str:
    """Return what is wrong with TOML; of too long a number Python does not say where it is."""
    long = _LONG_NUMBER.search(text)
    if isinstance(error, tomllib.TOMLDecodeError) or not long:
        return str(error)
    line = text.count("\n", 0, long.start()) + 1
    return f"the number in line {line} has {len(long[0]):,} digits. Write a smaller one."


def _apply_override(table: dict[str, Any], text: str) -> None:
    key, equals, raw = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {text!r} is not of the form section.key=value.")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"--set {key}: the value is not valid TOML: {_flaw(raw, error)}"
        ) from error
    if parts[0] == "agents":
        table.setdefault("agents", {name: {} for name in DEFAULT_AGENTS})
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UsageError(f"--set {text!r}: {part!r} is a value, not a section.")
    table[parts[-1]] = value


def recipe_from_table(table: Mapping[str, Any], where: str, base: Path | None = None) -> Recipe:
    """Build a recipe from parsed TOML; relative task paths count from ``base``."""
    problems: list[str] = []
    required: dict[str, Any] = {"agents": {}, "console": {}, "rewards": {}}
    whole = _with_published(required | dict(table), problems)
    recipe: Recipe = build(Recipe, whole, "", problems, CHOICES)
    if isinstance(recipe, Recipe):  # else a section is none at all, which is said already
        problems += _unknown_names(recipe) + _bad_tasks(recipe) + _bad_names(recipe)
    if not problems:
        problems += _misfits(recipe)
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise UsageError(f"{where}: {len(problems)} problem(s) in the recipe:\n{lines}")
    if not recipe.agents:
        agents = {name: default_section(AgentConfig) for name in DEFAULT_AGENTS}
        recipe = dataclasses.replace(recipe, agents=agents)
    return _resolve_paths(_with_prior(recipe, base), base)


def _with_published(table: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """Put the shares of published mixtures into a recipe's table for their names."""
    mixture = table.get("mixture")
    if not isinstance(mixture, Mapping):
        return table
    found = dict(mixture)
    for agent, value in mixture.items():
        if isinstance(value, str) and value in PUBLISHED:
            found[agent] = published(value)
        elif isinstance(value, str):
            near = did_you_mean(value, PUBLISHED)
            problems.append(f"mixture.{agent}: {value!r} is no published mixture; {near}")
            del found[agent]
    return {**table, "mixture": found}


def _with_prior(recipe: Recipe, base: Path | None) -> Recipe:
    """Put the weights of ``console.prior_file`` into the recipe, whose own values win."""
    console = recipe.console
    if not console.prior_file:
        return recipe
    path = Path(console.prior_file)
    if base is not None and (base / path).exists():
        path = base / path
    prior = _read_prior(path)
    for agent, weights in console.prior.items():
        prior[agent] = {**prior.get(agent, {}), **weights}
    console = dataclasses.replace(console, prior=prior, prior_file="")
    return dataclasses.replace(recipe, console=console)


def _read_prior(path: Path) -> dict[str, dict[str, float]]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"console.prior_file: {path} cannot be read: {error.strerror}. Give a file that "
            "`mads fit prior` wrote, or the console.json of a run."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"console.prior_file: {path} is not JSON: {error}.") from error
    if isinstance(value, dict) and SEAL in value:  # a run's own console.json
        value = read_sealed_json(path, "Give it as it was written.", by_hand=True)
    table = value.get("weights", value) if isinstance(value, dict) else None
    theta = value.get("theta", {}) if isinstance(value, dict) and "weights" in value else {}
    problems: list[str] = []
    prior: dict[str, dict[str, float]] = convert(Prior, table, "", problems)
    factor: dict[str, float] = convert(Factors, theta, "theta", problems)
    if problems:
        raise UsageError(
            f'console.prior_file: {path} holds no weights; expected {{"agent": {{"category": '
            f"1.5}}}}, but {problems[0].removeprefix(': ')}."
        )
    return with_theta(prior, factor)


def with_theta(prior: Prior, theta: Mapping[str, float]) -> Prior:
    """Return the weights that give the scores of equation 6 under equal θ: w · θ · (agents)."""
    return {
        agent: {name: w * theta[agent] * len(theta) for name, w in own.items()}
        if agent in theta
        else own
        for agent, own in prior.items()
    }


def with_weights(recipe: Recipe, weights: Sequence[str]) -> Recipe:
    """Return a recipe whose prior has these weights too, each ``AGENT.CATEGORY=WEIGHT``.

    Raises UsageError for what is not of that form.
    """
    prior = {agent: dict(table) for agent, table in recipe.console.prior.items()}
    for text in weights:
        name, equals, number = text.rpartition("=")
        agent, dot, category = name.partition(".")
        problems: list[str] = []
        table = convert(Prior, {agent: {category: _number(number)}}, "", problems)
        if not (equals and dot and agent and category) or problems:
            raise UsageError(
                f"--prior {text!r} is not of the form AGENT.CATEGORY=WEIGHT, such as domain.code=2."
            )
        prior.setdefault(agent, {}).update(table[agent])
    return dataclasses.replace(recipe, console=dataclasses.replace(recipe.console, prior=prior))


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _resolve_paths(recipe: Recipe, base: Path | None) -> Recipe:
    if base is None:
        return recipe

    def resolve(tasks: Mapping[str, T]) -> dict[str, T]:
        found = {}
        for name, task in tasks.items():
            near = base / task.path
            path = str(near.absolute()) if task.path and near.exists() else task.path
            found[name] = dataclasses.replace(task, path=path)
        return found

    return dataclasses.replace(
        recipe,
        rewards=dataclasses.replace(recipe.rewards, tasks=resolve(recipe.rewards.tasks)),
        evaluation=dataclasses.replace(recipe.evaluation, tasks=resolve(recipe.evaluation.tasks)),
    )


def default_section(base: type[Any], **values: Any) -> Any:
    """Return a section of the default kind: of an agent, the console or the rewards."""
    choice = CHOICES[base]
    return choice.types[choice.default](**{choice.key: choice.default}, **values)


def _unknown_names(recipe: Recipe) -> list[str]:
    """Return the keys that name no entry of their registry."""
    found: dict[str, tuple[str, Mapping[str, object]]] = {}
    for place, registry in _NAMES.items():
        *section, key = place.split(".")
        owner = getattr(recipe, section[0]) if section else recipe
        found[place] = getattr(owner, key), registry
    for group in ("rewards", "evaluation"):
        for name, task in getattr(recipe, group).tasks.items():
            found[f"{group}.tasks.{name}.format"] = task.format, FORMATS
    return [
        f"{place}: {name!r} is not known; {did_you_mean(name, registry)}"
        for place, (name, registry) in found.items()
        if name not in registry
    ]


def _bad_tasks(recipe: Recipe) -> list[str]:
    return [
        f"evaluation.tasks.{name}: rewards.tasks has this name too; take another"
        for name in recipe.evaluation.tasks
        if name in recipe.rewards.tasks
    ] + [
        f"{group}.tasks.{text_name(name)}: the whole text of rewards.tasks.{name} is called this; "
        "take another name"
        for name in recipe.rewards.tasks
        for group in ("rewards", "evaluation")
        if text_name(name) in getattr(recipe, group).tasks
    ]


def _misfits(recipe: Recipe) -> list[str]:
    """Return the values that are possible, but not together."""
    problems = []
    training, model = recipe.training, recipe.model
    start = recipe.console.start
    if start != "equal" and (recipe.console.prior or recipe.console.prior_file):
        problems.append(
            f'console.start: "{start}" finds a prior, but console.prior or console.prior_file '
            "gives one; leave one of them out"
        )
    problems += _mixture_misfits(recipe) + _influence_misfits(recipe)
    if training.batch_tokens % training.context:
        problems.append(
            f"training.batch_tokens: {training.batch_tokens} is not a multiple of "
            f"training.context ({training.context})"
        )
    if model.hidden_size % model.num_heads:
        problems.append(
            f"model.hidden_size: {model.hidden_size} is not a multiple of "
            f"model.num_heads ({model.num_heads})"
        )
    elif model.hidden_size // model.num_heads % 2:
        problems.append(
            f"model.hidden_size: {model.hidden_size} / model.num_heads ({model.num_heads}) is odd; "
            "rotary positions need an even number"
        )
    return problems


def _influence_misfits(recipe: Recipe) -> list[str]:
    """Return what keeps an agent that appears in the middle of a run from being listened to."""
    if not recipe.influence.every:
        return []
    problems, policy = [], recipe.selection.policy
    if recipe.strategy != Console.name:
        problems.append(
            f'influence.every: only the strategy "console" can listen to one more agent, found '
            f'"{recipe.strategy}"; leave influence.every out (0)'
        )
    if policy in POLICIES and not POLICIES[policy].uses_scores:
        problems.append(
            f'influence.every: selection.policy = "{policy}" reads no scores, so nothing would '
            "follow from it; leave influence.every out (0), or take another policy"
        )
    return problems


def _mixture_misfits(recipe: Recipe) -> list[str]:
    """Return what is wrong with a mixture, or with what should use it."""
    held = recipe.strategy == Mixture.name
    begun = recipe.console.start == "mixture"
    problems = []
    if begun and recipe.strategy != Console.name:
        problems.append(
            f'console.start: only the strategy "console" begins with a mixture, found '
            f'"{recipe.strategy}"; strategy = "mixture" holds one for the whole run'
        )
    if (held or begun) and len(recipe.mixture) != 1:
        named = ", ".join(recipe.mixture) or "none"
        problems.append(
            f"mixture: expected the shares of one agent's categories, found {named}; add "
            '[mixture.domain], say, or mixture.domain = "doremi"'
        )
    if recipe.mixture and not (held or begun):
        problems.append(
            'mixture: nothing uses it; set strategy = "mixture", or console.start = "mixture" for '
            "a console that begins with it"
        )
    for agent, shares in recipe.mixture.items():
        total = sum(shares.values())
        if abs(total - 1) > SUM_TOLERANCE:
            problems.append(
                f"mixture.{agent}: the shares add up to {total:.6g}, expected 1; a category that "
                "is not named gets none"
            )
    return problems


def bad_names(group: str, names: Iterable[str]) -> list[str]:
    """Return a problem for each name that could not be a file's or a column's."""
    return [
        f"{group}.{name}: a name has only a-z, 0-9, _ and -, {_MAX_NAME} of them at most"
        for name in names
        if not 0 < len(name) <= _MAX_NAME or set(name) - _PLAIN
    ]


def _bad_names(recipe: Recipe) -> list[str]:
    """Names become file and column names, so they are plain."""
    groups: dict[str, Mapping[str, object]] = {
        "agents": recipe.agents,
        "rewards.tasks": recipe.rewards.tasks,
        "evaluation.tasks": recipe.evaluation.tasks,
    }
    problems = [line for group, entries in groups.items() for line in bad_names(group, entries)]
    return problems + [
        f"agents.{name}: this name is a column of mads's own files; take another"
        for name in recipe.agents
        if name in RESERVED_NAMES or name.startswith("reward_")
    ]


def to_table(section: Any) -> dict[str, Any]:
    """Return a section as plain nested dictionaries and lists."""
    table: dict[str, Any] = dataclasses.asdict(section)
    return table


def to_toml(table: Mapping[str, Any], place: str = "") -> str:
    """Write nested tables as TOML; ``tomllib.loads`` gives the same table back."""
    lines = [f"{_key(k)} = {_value(v)}" for k, v in table.items() if not isinstance(v, Mapping)]
    text = "\n".join(lines) + "\n" if lines else ""
    for key, value in table.items():
        if isinstance(value, Mapping):
            at = f"{place}.{_key(key)}" if place else _key(key)
            text += f"\n[{at}]\n" + to_toml(value, at)
    return text


def _key(key: str) -> str:
    plain = key and all((c.isalnum() and c.isascii()) or c in "_-" for c in key)
    return key if plain else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        control = {i: f"\\u{i:04x}" for i in (*range(32), 127)}
        return f'"{escaped.translate(control)}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    assert isinstance(value, int | float)
    return repr(value)

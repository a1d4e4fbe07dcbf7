"""Reading and writing recipes: one TOML file, checked as a whole.

A recipe is strict. Every unknown key, wrong type and impossible value is reported at once, each
with its place and, for a misspelt key, the nearest known one. ``--set section.key=value`` changes
a value before the check; the value is TOML (``true``, ``3e-4``, ``["a", "b"]``) or a bare string.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import typing
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from mads.config import DEFAULT_AGENTS, RESERVED_NAMES, AgentConfig, Recipe, TaskConfig
from mads.errors import UsageError, did_you_mean
from mads.units import parse_bytes

_MAX_NAME = 64
_MAX_QUANTILES = 100
# (section.key, lowest, highest): the values that are numbers but make no sense.
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("corpus.max_doc_bytes", 1, 2**31 - 1),
    ("corpus.shard_docs", 1, 2**31),
    ("corpus.workers", 0, 4096),
    ("tokenizer.vocab_size", 259, 2**31 - 1),
    ("tokenizer.sample_bytes", 1, 2**40),
    ("selection.temperature", 1e-6, 1e6),
    ("selection.decay", 0, 1e6),
    ("selection.max_passes", 0, 2**31),
    ("selection.update_every", 0, 2**40),
    ("selection.threads", 0, 1024),
    ("console.weight_rate", 0, 1),
    ("console.theta_rate", 0, 100),
    ("console.theta_floor", 0, 1),
    ("console.half_life", 0.01, 1e9),
    ("console.explore", -100, 100),
    ("console.weight_limit", 1, 1e12),
    ("console.min_entropy", 0, 1),
    ("rewards.probes_per_category", 2, 2**31),
    ("rewards.epsilon", 1e-8, 0.1),
    ("rewards.damping", 1e-12, 1e6),
    ("rewards.batch_size", 1, 2**20),
    ("rewards.oracle_docs", 0, 2**20),
    ("rewards.probe_tokens", 0, 2**40),
    ("rewards.projection_dims", 1, 2**24),
    ("model.hidden_size", 2, 2**20),
    ("model.num_layers", 1, 10_000),
    ("model.num_heads", 1, 10_000),
    ("model.ffn_size", 1, 2**24),
    ("model.vocab_size", 0, 2**31 - 1),
    ("model.rope_theta", 1e-3, 1e12),
    ("training.steps", 1, 2**40),
    ("training.context", 2, 2**24),
    ("training.batch_tokens", 2, 2**40),
    ("training.micro_batch", 1, 2**20),
    ("training.first_update", 1, 2**40),
    ("training.update_every", 1, 2**40),
    ("training.learning_rate", 0, 100),
    ("training.warmup", 0, 2**40),
    ("training.cooldown", 0, 2**40),
    ("training.min_lr_ratio", 0, 1),
    ("training.weight_decay", 0, 1e6),
    ("training.grad_clip", 0, 1e12),
    ("training.keep_checkpoints", 0, 2**31),
    ("training.checkpoint_every", 1, 2**40),
)


def load_recipe(path: Path | None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe (a file, or the name of a shipped one) and apply ``key=value`` overrides.

    Raises UsageError that lists every problem at once.
    """
    table: dict[str, Any] = {}
    where = "the command line"
    if path is not None:
        where = str(path)
        table = _read_toml(path)
    for text in overrides:
        _apply_override(table, text)
    return recipe_from_table(table, where, path.parent if path is not None else None)


def shipped_recipes() -> list[str]:
    """Return the names of the recipes inside the package."""
    folder = resources.files("mads") / "recipes"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _read_toml(path: Path) -> dict[str, Any]:
    if path.is_file():
        text = path.read_bytes()
    elif path.name == str(path) and path.name.removesuffix(".toml") in shipped_recipes():
        name = path.name.removesuffix(".toml")
        text = (resources.files("mads") / "recipes" / f"{name}.toml").read_bytes()
    else:
        raise UsageError(
            f"recipe {str(path)!r} does not exist. Give a TOML file or a shipped recipe: "
            f"{', '.join(shipped_recipes())}."
        )
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {path} is not valid TOML: {error}") from error


def _apply_override(table: dict[str, Any], text: str) -> None:
    key, equals, raw = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {text!r} is not of the form section.key=value.")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw
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
    recipe: Recipe = _build(Recipe, dict(table), "", problems)
    problems += _out_of_range(recipe)
    if not problems:
        problems += _misfits(recipe)
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise UsageError(f"{where}: {len(problems)} problem(s) in the recipe:\n{lines}")
    if not recipe.agents:
        agents = {name: AgentConfig() for name in DEFAULT_AGENTS}
        recipe = dataclasses.replace(recipe, agents=agents)
    return _resolve_paths(_with_prior(recipe, base), base)


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
        raise UsageError(f"console.prior_file: {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"console.prior_file: {path} is not JSON: {error}.") from error
    table = value.get("weights", value) if isinstance(value, dict) else None
    if isinstance(table, dict) and all(
        isinstance(weights, dict) and all(type(n) in (int, float) for n in weights.values())
        for weights in table.values()
    ):
        return {agent: dict(weights) for agent, weights in table.items()}
    raise UsageError(
        f'console.prior_file: {path} holds no weights; expected {{"agent": {{"category": 1.5}}}}.'
    )


def _resolve_paths(recipe: Recipe, base: Path | None) -> Recipe:
    if base is None:
        return recipe

    def resolve(tasks: dict[str, TaskConfig]) -> dict[str, TaskConfig]:
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


_BAD = object()  # stands for a value that is reported as a problem


def _build(cls: type[Any], table: dict[str, Any], place: str, problems: list[str]) -> Any:
    """Build one section; every problem found is appended, and its key keeps the default."""
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in table.items():
        at = f"{place}{key}"
        if key not in hints:
            problems.append(f"{at}: unknown key; {did_you_mean(key, hints)}")
            continue
        values[key] = _convert(hints[key], value, at, problems)
    return cls(**{key: value for key, value in values.items() if value is not _BAD})


def _convert(hint: Any, value: Any, at: str, problems: list[str]) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _build(typing.cast("type[Any]", hint), value, f"{at}.", problems)
    if origin is dict and isinstance(value, dict):
        found = {k: _convert(args[1], item, f"{at}.{k}", problems) for k, item in value.items()}
        return {key: item for key, item in found.items() if item is not _BAD}
    if origin is tuple and isinstance(value, list | tuple):
        items = tuple(_convert(args[0], v, f"{at}[{i}]", problems) for i, v in enumerate(value))
        return _BAD if _BAD in items else items
    if origin is Literal:
        if value in args:
            return value
        problems.append(f"{at}: {value!r} is not known; {did_you_mean(str(value), args)}")
        return _BAD
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and type(value) is hint:
        return value
    problems.append(f"{at}: found {value!r}, expected {_describe(hint)}")
    return _BAD


def _describe(hint: Any) -> str:
    if dataclasses.is_dataclass(hint) or typing.get_origin(hint) is dict:
        return "a section"
    if typing.get_origin(hint) is tuple:
        return f"a list of {_describe(typing.get_args(hint)[0])}"
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return names[hint]


def _out_of_range(recipe: Recipe) -> list[str]:
    problems = []
    for key, low, high in _RANGES:
        section, name = key.split(".")
        value = getattr(getattr(recipe, section), name)
        if not low <= value <= high:
            problems.append(f"{key}: found {value}, expected {low:g} to {high:g}")
    for name, size in (
        ("index_memory", recipe.index_memory),
        ("selection.memory", recipe.selection.memory),
    ):
        try:
            parse_bytes(size)
        except UsageError as error:
            problems.append(f"{name}: {error}")
    betas = recipe.training.betas
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        problems.append(f"training.betas: found {list(betas)}, expected two numbers in [0, 1)")
    return problems + _bad_quantiles(recipe) + _bad_tasks(recipe) + _bad_names(recipe)


def _bad_quantiles(recipe: Recipe) -> list[str]:
    problems = []
    for name, agent in recipe.agents.items():
        bins, names = agent.quantiles, agent.categories
        if bins and not 2 <= bins <= _MAX_QUANTILES:
            problems.append(
                f"agents.{name}.quantiles: found {bins}, expected 2 to {_MAX_QUANTILES}"
            )
        elif bins and names and len(names) != bins:
            problems.append(
                f"agents.{name}.categories: found {len(names)}, but quantiles makes {bins} bins; "
                "give as many names, or none"
            )
    return problems


def _bad_tasks(recipe: Recipe) -> list[str]:
    problems = [
        f"evaluation.tasks.{name}: rewards.tasks has this name too; take another"
        for name in recipe.evaluation.tasks
        if name in recipe.rewards.tasks
    ]
    for section in ("rewards", "evaluation"):
        for name, task in getattr(recipe, section).tasks.items():
            if not 0 < task.weight < math.inf:
                problems.append(f"{section}.tasks.{name}.weight: found {task.weight}, expected > 0")
            if task.num_examples < 0:
                problems.append(
                    f"{section}.tasks.{name}.num_examples: found {task.num_examples}, expected >= 0"
                )
    return problems


def _misfits(recipe: Recipe) -> list[str]:
    """Return the values that are possible, but not together."""
    problems = []
    training, model = recipe.training, recipe.model
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


def _bad_names(recipe: Recipe) -> list[str]:
    """Names become file and column names, so they are plain."""
    groups: dict[str, Mapping[str, object]] = {
        "agents": recipe.agents,
        "rewards.tasks": recipe.rewards.tasks,
        "evaluation.tasks": recipe.evaluation.tasks,
    }
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    problems = [
        f"{group}.{name}: a name has only a-z, 0-9, _ and -, {_MAX_NAME} of them at most"
        for group, entries in groups.items()
        for name in entries
        if not 0 < len(name) <= _MAX_NAME or set(name) - allowed
    ]
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

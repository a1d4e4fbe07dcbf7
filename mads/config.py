"""The recipe: one TOML file, one typed and frozen section per stage.

A recipe is strict. Every unknown key, wrong type and impossible value is reported at once, each
with its place and, for a misspelt key, the nearest known one. ``--set section.key=value`` changes
a value before the check; the value is TOML (``true``, ``3e-4``, ``["a", "b"]``) or a bare string.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from mads.errors import UsageError, did_you_mean


@dataclass(frozen=True, slots=True)
class CorpusConfig:
    """How corpus files are read."""

    text_field: str = "text"  # dotted path to the text of a document
    max_doc_bytes: int = 4 * 1024 * 1024  # a longer document gets the status too_long
    shard_docs: int = 65_536  # documents in one shard of the store, at most
    workers: int = 0  # processes; 0 = one per core


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """A Hugging Face tokenizer by id or path; without one, a byte-level BPE is trained."""

    name: str = ""
    revision: str = ""
    vocab_size: int = 8_192  # of the trained tokenizer
    sample_bytes: int = 20_000_000  # corpus text that it is trained on


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """One agent: how it labels. Which keys count depends on the back-end."""

    backend: Literal["fasttext", "column"] = "fasttext"
    model: str = ""  # fasttext: a shipped model's name or a path; default: the agent's name
    field: str = ""  # column: dotted path to the value
    categories: tuple[str, ...] = ()  # column: the categories, in order
    rename: dict[str, str] = dataclasses.field(default_factory=dict)  # column: value -> category
    other: str = ""  # column: category of every other value; without it such a value is an error
    edges: tuple[float, ...] = ()  # column: inner bin edges of a number, one fewer than categories
    # Bins of as many documents each by score, over the whole corpus; their names are q1, q2, …
    # or ``categories``, lowest scores first. column: of a number; fasttext: of a model like quality
    quantiles: int = 0

    @property
    def bin_names(self) -> tuple[str, ...]:
        """The categories of an agent with ``quantiles``."""
        return self.categories or tuple(f"q{i + 1}" for i in range(self.quantiles))


@dataclass(frozen=True, slots=True)
class SelectionConfig:
    """How the console's score becomes a selection (DESIGN: section 4)."""

    policy: Literal["sample", "top", "random"] = "sample"
    temperature: float = 0.25  # of `sample`: lower follows the score more closely
    decay: float = 0.1  # λ: the score of a document used n times is divided by 1 + λn
    max_passes: int = 0  # times one document may be selected; 0 = without limit
    # Least and largest share of the budget, e.g. [selection.min_share.domain] code = 0.05
    min_share: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    max_share: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    update_every: int = 0  # optimizer steps from one selection to the next; 0 = once a round
    memory: str = "1GB"  # DuckDB's memory limit
    threads: int = 0  # DuckDB's threads; 0 = one per core


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """The agent console's update rule."""

    rule: Literal["bayes", "stable", "paper"] = "bayes"
    weight_rate: float = 0.6  # η of the category weights (`stable`, `paper`)
    theta_rate: float = 0.3  # η of the collaborative weights (`stable`, `paper`)
    half_life: float = 4.0  # rounds after which half of what is known is forgotten (`bayes`)
    explore: float = 0.0  # standard deviations added to each effect (`bayes`)
    # Guard rails of `stable` and `bayes`; each that acts is reported.
    theta_floor: float = 0.05  # the least collaborative weight
    weight_limit: float = 4.5  # w stays within 1/4.5 and 4.5 times its agent's mean
    min_entropy: float = 0.5  # of an agent's categories by share·w, relative to the corpus
    # Weights to begin with, e.g. [console.prior.domain] C4 = 2.0; the others are 1. A file holds
    # the same as JSON, {"domain": {"C4": 2.0}}, or is the console.json of another run.
    prior: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    prior_file: str = ""


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """A reference or evaluation task: where its items are and how they are read."""

    format: Literal["cloze", "lambada", "squad", "jeopardy", "choices"] = "cloze"
    path: str = ""  # a local .jsonl(.gz/.zst) or .parquet file, or a Hugging Face data set id
    split: str = "validation"  # of a Hugging Face data set
    weight: float = 1.0
    num_examples: int = 500  # a seeded subset; 0 = all


@dataclass(frozen=True, slots=True)
class RewardsConfig:
    """How feedback is measured (DESIGN: section 6)."""

    estimator: Literal["forward", "gradient", "one_step", "projected"] = "forward"
    probes_per_category: int = 32  # documents drawn for each category of each agent
    probe_tokens: int = 0  # instead: tokens a round may probe, shared out to equal standard errors
    per_task: bool = True  # keep each reference task's rewards apart; false costs one task's time
    epsilon: float = 3e-4  # ‖εv‖ / ‖θ‖ of the forward estimator
    damping: float = 0.1  # δ relative to mean(√v̂)
    batch_size: int = 8  # documents or examples per forward pass
    oracle_docs: int = 8  # documents on which the estimator is compared with `gradient`
    projection_dims: int = 8_192  # of `projected`
    tasks: dict[str, TaskConfig] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """Tasks whose loss is followed but never used as a reward."""

    tasks: dict[str, TaskConfig] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A LLaMA decoder by its shape, or any causal LM by id or path (``hf``)."""

    hf: str = ""  # its configuration is read; with ``pretrained`` its weights too
    pretrained: bool = False
    hidden_size: int = 256
    num_layers: int = 4
    num_heads: int = 4
    ffn_size: int = 704
    vocab_size: int = 0  # 0 = the tokenizer's, rounded up to a multiple of 64
    rope_theta: float = 10_000.0
    tie_embeddings: bool = False


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Pretraining: sizes in tokens, lengths in optimizer steps."""

    steps: int = 800
    context: int = 256  # tokens in one sequence
    batch_tokens: int = 8_192  # tokens in one optimizer step
    micro_batch: int = 8  # sequences in one forward pass
    first_update: int = 200  # random selection until this step
    update_every: int = 100  # U: steps from one console update to the next
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    warmup: int = 40  # steps
    min_lr_ratio: float = 0.1  # the last learning rate, relative to the peak
    cooldown: int = 0  # steps of the final decay of `wsd`; 0 = a fifth of the run
    betas: tuple[float, ...] = (0.9, 0.95)
    weight_decay: float = 0.1
    grad_clip: float = 1.0
    document_mask: bool = True  # attention and loss stay inside a document
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto = bfloat16 on a GPU
    compile: bool = False
    checkpoint_every: int = 200  # steps
    keep_checkpoints: int = 2  # the newest ones; 0 = all
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Recipe:
    """The whole recipe."""

    seed: int = 0
    corpus: CorpusConfig = dataclasses.field(default_factory=CorpusConfig)
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=TokenizerConfig)
    agents: dict[str, AgentConfig] = dataclasses.field(default_factory=dict)
    index_memory: str = "1GB"  # memory for building the cell index
    selection: SelectionConfig = dataclasses.field(default_factory=SelectionConfig)
    console: ConsoleConfig = dataclasses.field(default_factory=ConsoleConfig)
    rewards: RewardsConfig = dataclasses.field(default_factory=RewardsConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)


_MAX_NAME = 64
_MAX_QUANTILES = 100
DEFAULT_AGENTS = ("quality", "domain", "topic")
RESERVED_NAMES = frozenset(
    {
        "cell",
        "doc",
        "num_docs",
        "num_tokens",
        "first_row",
        "tokens_before",
        "reward",
        "loss",
        "times_selected",
        "step",
        "score",
        "weight",
        "theta",
    }
)

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
    return _resolve_paths(recipe, base)


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

    prior = recipe.console.prior_file
    if prior and (base / prior).exists():
        prior = str((base / prior).absolute())
    return dataclasses.replace(
        recipe,
        console=dataclasses.replace(recipe.console, prior_file=prior),
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
        f"agents.{name}: this name is a column of the index; take another"
        for name in recipe.agents
        if name in RESERVED_NAMES
    ]


def parse_bytes(text: str) -> int:
    """Return a size such as ``4GB`` or ``500 MiB`` in bytes; raises UsageError.

    >>> parse_bytes("4GB"), parse_bytes("1KiB")
    (4000000000, 1024)
    """
    units = {"": 1, "B": 1}
    for power, letter in enumerate("KMGT", start=1):
        units |= {letter: 1000**power, f"{letter}B": 1000**power, f"{letter}IB": 1024**power}
    number = text.strip().rstrip("BKMGTIbkmgti ")
    unit = text.strip()[len(number) :].strip().upper()
    try:
        size = float(number) * units[unit]
    except (ValueError, KeyError):
        size = math.nan
    if not 1 <= size < 2**63:
        raise UsageError(f"{text!r} is not a size; write 4GB, say.")
    return int(size)


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

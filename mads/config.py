"""What a recipe holds: one typed and frozen section per stage, each value with its range.

A section whose kind is chosen by a key (``backend`` of an agent, ``rule`` of the console,
``estimator`` of the rewards) has only the common keys here; what belongs to one kind stands with
its code. ``mads/recipe.py`` reads all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from mads.codec import Size, Within

LARGEST_SEED = 2**63 - 1
Seed = Annotated[int, Within(0, LARGEST_SEED)]
Shares = dict[str, dict[str, Annotated[float, Within(0, 1)]]]
"""Agent -> category -> share of the budget."""

LARGEST_WEIGHT = 1e100  # a product of two, divided by a temperature, stays finite
Prior = dict[str, dict[str, Annotated[float, Within(-LARGEST_WEIGHT, LARGEST_WEIGHT)]]]
"""Agent -> category -> weight."""

Beta = Annotated[float, Within(0, 0.999999)]  # how much of an average a step keeps


@dataclass(frozen=True, slots=True)
class CorpusConfig:
    """How corpus files are read."""

    text_field: str = "text"  # dotted path to the text of a document
    # Dotted path to the user's own id, a text or a whole number, which comes back in selections and
    # explanations. Empty: that of a layout which mads knows (`corpus/layouts.py`); "-": none
    id_field: str = ""
    # What to do with a file that has rows, but none with a text
    files_without_text: Literal["refuse", "skip"] = "refuse"
    max_bad: Annotated[float, Within(0, 1)] = 1.0  # largest share of rows whose status is not ok
    max_doc_bytes: Annotated[int, Within(1, 2**31 - 1)] = 4 * 1024 * 1024  # longer: too_long
    shard_docs: Annotated[int, Within(1, 2**31)] = 65_536  # documents in one shard, at most
    # Small files are joined into one shard while they have no more text than this together
    shard_bytes: Annotated[int, Within(0, 2**40)] = 8 * 1024 * 1024
    workers: Annotated[int, Within(0, 4096)] = 0  # processes; 0 = one per core
    executor: str = "processes"  # who labels: a name of EXECUTORS


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """A Hugging Face tokenizer by id or path; without one, a byte-level BPE is trained."""

    name: str = ""
    revision: str = ""
    vocab_size: Annotated[int, Within(259, 2**31 - 1)] = 8_192  # of the trained tokenizer
    sample_bytes: Annotated[int, Within(1, 2**40)] = 20_000_000  # text that it is trained on


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """One agent: how it labels. Each back-end has a section of its own (``BACKENDS``)."""

    backend: str


@dataclass(frozen=True, slots=True)
class SelectionConfig:
    """How scores become a selection."""

    policy: str = "sample"  # a name of POLICIES
    temperature: Annotated[float, Within(1e-6, 1e6)] = 0.25  # of `sample`: lower is stricter
    # Least entropy of each agent's mixture, as a part of the corpus's: `sample` raises the
    # temperature until it is kept; 0 = none
    least_entropy: Annotated[float, Within(0, 0.999)] = 0.0
    decay: Annotated[float, Within(0, 1e6)] = 0.1  # λ: after n uses the score is divided by 1 + λn
    max_passes: Annotated[int, Within(0, 2**31)] = 0  # times a document may be selected; 0 = any
    # Least and largest share of the budget, e.g. [selection.min_share.domain] code = 0.05
    min_share: Shares = field(default_factory=dict)
    max_share: Shares = field(default_factory=dict)
    # Optimizer steps from one selection to the next; 0 = once a round
    select_every: Annotated[int, Within(0, 2**40)] = 0
    ram: Annotated[str, Size()] = "1GB"  # DuckDB's limit
    threads: Annotated[int, Within(0, 1024)] = 0  # DuckDB's threads; 0 = one per core


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """The agent console; each update rule has a section of its own (``RULES``)."""

    rule: str
    agents: tuple[str, ...] = ()  # of the store's, those that count; none named = all
    # Weights to begin with, e.g. [console.prior.domain] C4 = 2.0; the others are 1. A file holds
    # the same as JSON, {"domain": {"C4": 2.0}}, or is the console.json of another run; its
    # weights become part of the recipe, each times θ so that scores are the other run's.
    prior: Prior = field(default_factory=dict)
    prior_file: str = ""
    # Without a prior: equal weights, those that `mads fit prior` finds, found as a run begins, or
    # those that begin with the shares of [mixture.AGENT]
    start: Literal["equal", "matched", "mixture"] = "equal"


@dataclass(frozen=True, slots=True)
class OdmConfig:
    """The strategy ``odm``: a bandit over one agent's categories."""

    agent: str = "domain"
    # How much of a category's mean reward a round keeps (α); 0 = the last round's reward alone
    smoothing: Annotated[float, Within(0, 0.999999)] = 0.9


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """A reference or evaluation task: where its items are and how they are read."""

    format: str = "cloze"  # a name of FORMATS
    path: str = ""  # a local .jsonl(.gz/.zst) or .parquet file, or a Hugging Face data set id
    split: str = "validation"  # of a Hugging Face data set
    weight: Annotated[float, Within(1e-12, 1e12)] = 1.0
    num_examples: Annotated[int, Within(0, 2**40)] = 500  # a seeded subset; 0 = all


@dataclass(frozen=True, slots=True)
class ReferenceConfig(TaskConfig):
    """A reference task, and which loss of its items counts."""

    # Of the right answer given its context, of the whole text, or rewards along each of the two
    objective: Literal["answer", "text", "both"] = "answer"


@dataclass(frozen=True, slots=True)
class RewardsConfig:
    """How feedback is measured; each estimator has a section of its own (``ESTIMATORS``)."""

    estimator: str
    # Documents drawn for each category of each agent ...
    probes_per_category: Annotated[int, Within(2, 2**31)] = 32
    # ... or tokens that a round may probe, shared out to equal standard errors
    probe_tokens: Annotated[int, Within(0, 2**40)] = 0
    per_task: bool = True  # keep each reference task's rewards apart; false costs one task's time
    damping: Annotated[float, Within(1e-12, 1e6)] = 0.1  # δ relative to mean(√v̂)
    batch_size: Annotated[int, Within(1, 2**20)] = 8  # documents or examples per forward pass
    # Of the model's products while rewards are measured; "auto" is tf32 on a GPU, else float32
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    # Documents on which the estimator is compared with `gradient`
    oracle_docs: Annotated[int, Within(0, 2**20)] = 8
    # Rewards of several directions are added as they are, or each divided by its standard
    # deviation, or count by their soft minimum: what helps one task only counts little
    combine: Literal["mean", "standardised", "soft_minimum"] = "mean"
    # Listen to rewards from the first round on in which two halves of its documents agree on the
    # effects of categories: before, the model has learned too little, or too few were probed
    competence: bool = True
    # Deal the rewards out to the probed documents at random: what all this does without a signal
    placebo: bool = False
    tasks: dict[str, ReferenceConfig] = field(default_factory=dict)


INFLUENCE = "influence"
"""The name of the agent that a run fits by itself."""


@dataclass(frozen=True, slots=True)
class InfluenceConfig:
    """Learned influence in the loop: one more agent, fitted to the run's own rewards (MATES)."""

    every: Annotated[int, Within(0, 2**40)] = 0  # rounds from one fit to the next; 0 = off
    first: Annotated[int, Within(2, 2**40)] = 2  # the first round that has it; 1 measures first
    rounds: Annotated[int, Within(1, 2**20)] = 3  # the latest ones, whose rewards it learns from
    bins: Annotated[int, Within(2, 100)] = 5  # its categories, r1 (lowest rewards) to r5


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """Tasks whose loss is followed but never used as a reward."""

    seed: Seed = 0  # which items are taken, of these and of the reference tasks
    tasks: dict[str, TaskConfig] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A LLaMA decoder by its shape, or any causal LM by id or path (``hf``)."""

    hf: str = ""  # its configuration is read; with ``pretrained`` its weights too
    pretrained: bool = False
    hidden_size: Annotated[int, Within(2, 2**20)] = 256
    num_layers: Annotated[int, Within(1, 10_000)] = 4
    num_heads: Annotated[int, Within(1, 10_000)] = 4
    ffn_size: Annotated[int, Within(1, 2**24)] = 704
    # 0 = the tokenizer's, rounded up to a multiple of 64
    vocab_size: Annotated[int, Within(0, 2**31 - 1)] = 0
    rope_theta: Annotated[float, Within(1e-3, 1e12)] = 10_000.0
    tie_embeddings: bool = False


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Pretraining: sizes in tokens, lengths in optimizer steps."""

    steps: Annotated[int, Within(1, 2**40)] = 800
    context: Annotated[int, Within(2, 2**24)] = 256  # tokens in one sequence
    batch_tokens: Annotated[int, Within(2, 2**40)] = 8_192  # tokens in one optimizer step
    # A document is read in parts of so many tokens, at most; 0 = four contexts
    part_tokens: Annotated[int, Within(0, 2**40)] = 0
    micro_batch: Annotated[int, Within(1, 2**20)] = 8  # sequences in one forward pass
    first_update: Annotated[int, Within(1, 2**40)] = 200  # no feedback until this step
    # U: steps from one update of the strategy to the next
    update_every: Annotated[int, Within(1, 2**40)] = 100
    learning_rate: Annotated[float, Within(0, 100)] = 1e-3
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    warmup: Annotated[int, Within(0, 2**40)] = 40  # steps
    min_lr_ratio: Annotated[float, Within(0, 1)] = 0.1  # the last rate, relative to the peak
    # Steps of the final decay of `wsd`; 0 = a fifth of the run
    cooldown: Annotated[int, Within(0, 2**40)] = 0
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    weight_decay: Annotated[float, Within(0, 1e6)] = 0.1
    grad_clip: Annotated[float, Within(0, 1e12)] = 1.0
    document_mask: bool = True  # attention and loss stay inside a document
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto = bfloat16 on a GPU
    compile: bool = False
    checkpoint_every: Annotated[int, Within(1, 2**40)] = 200  # steps
    # So many batches in a row without a finite loss and gradient are skipped, then the run stops
    max_bad_steps: Annotated[int, Within(1, 2**20)] = 5
    keep_checkpoints: Annotated[int, Within(0, 2**31)] = 2  # the newest ones; 0 = all
    device: str = "auto"

    @property
    def decay_steps(self) -> int:
        """The length of the final decay of ``wsd``."""
        return self.cooldown or max(self.steps // 5, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The whole recipe. ``mads.recipe.recipe_from_table({}, "")`` has all defaults."""

    seed: Seed = 0
    strategy: str = "console"  # what turns evidence into scores: a name of STRATEGIES
    # Shares of tokens of one agent's categories, for the strategy `mixture` or to begin with
    # (console.start); a category that is not named gets none. The name of a published mixture
    # stands for its shares: domain = "doremi" (`mads/strategies/published.py`)
    mixture: Shares = field(default_factory=dict)
    index_ram: Annotated[str, Size()] = "1GB"  # for building the cell index
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    agents: dict[str, AgentConfig]
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    console: ConsoleConfig
    odm: OdmConfig = field(default_factory=OdmConfig)
    rewards: RewardsConfig
    influence: InfluenceConfig = field(default_factory=InfluenceConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


DEFAULT_AGENTS = ("quality", "domain", "topic")
RESERVED_NAMES = frozenset(
    {
        "cell",
        "doc",
        "id",
        "num_docs",
        "num_tokens",
        "first_row",
        "tokens_before",
        "uses",
        "first_token",
        "reward",
        "loss",
        "times_selected",
        "step",
        "score",
        "weight",
        "theta",
    }
)
"""Names of columns in mads's own files, which no agent can have."""

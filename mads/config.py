"""What a recipe holds: one typed and frozen section per stage. ``mads/recipe.py`` reads it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal


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
    min_entropy: float = 0.3  # of an agent's categories by share·w, relative to the corpus
    # Weights to begin with, e.g. [console.prior.domain] C4 = 2.0; the others are 1. A file holds
    # the same as JSON, {"domain": {"C4": 2.0}}, or is the console.json of another run; its
    # weights become part of the recipe.
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

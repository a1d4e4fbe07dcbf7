"""The nouns that cross stages. Read this file first.

Suffixes on array names give shapes: N documents of a batch or a list, C cells, A agents, L levels,
S segments, D directions, J categories of one agent, B sequences, T tokens.

Words (each has this meaning only):

document    one row of the corpus; its number is shard << 32 | row
agent       labels every document with one of its categories; a scorer gives a number instead
memory      an agent's labels of the whole corpus, one Parquet file for each shard (RAM is `ram`)
shard       rows of corpus files that have one file each of documents, tokens and every memory
segment     a run of rows of one corpus file within a shard
cell        the documents that share one category of every agent
order       all documents of an index, cell after cell, shuffled within a cell
generation  one index of a store, over the shards and agents that it had then; a run may make some
            of its own, and the store stays as it is
weight      w, of a category; theta is of an agent; 1 / sampling rate is `weight_N` of a probe
reward      of a document: positive = training on it lowers the reference loss
probe       a document whose reward is measured; a Question is what an estimator is asked of them
note        something told to the user, or a mark of how far work has come
evidence    what a strategy learns from
strategy    turns evidence into one score per cell; the console is one
policy      turns scores into shares of levels
level       the part of a cell that was selected equally often
part        of a document: what training takes of it at a time; of a plan: one machine's share
plan        how much of which cell is selected; its ranges are rows of the order
selection   the documents of a plan
round       one update of the strategy and the selection that follows
span        shards that one process annotates one after the other
seal        what is known of a file's bytes
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NO_CATEGORY = 0xFFFF
"""The category of a document that no agent reads because its status is not ``ok``."""

ROW_BITS = 32


ID, FILE, ROW = "<id>", "<file>", "<row>"
"""What an agent may ask for as for a field of the corpus: a document's id under
``corpus.id_field`` (None where it has none), its file's whole path, and its row there."""

OWN_FIELDS = frozenset({ID, FILE, ROW})


class Status(StrEnum):
    """What became of a corpus row. Only ``ok`` rows are labelled, tokenised and selected."""

    OK = "ok"
    EMPTY = "empty"  # the text has no visible character, or the line is blank
    NO_TEXT = "no_text"  # the text field is absent, null or not a string
    UNDECODABLE = "undecodable"  # not valid UTF-8 or not valid JSON
    TOO_LONG = "too_long"  # longer than corpus.max_doc_bytes


def doc_id(shard: int, row: int) -> int:
    """Return the number of a document: shard in the high 32 bits, row in the low ones."""
    return shard << ROW_BITS | row


@dataclass(frozen=True, slots=True)
class DocumentBatch:
    """Consecutive corpus rows.

    ``texts`` holds "" where the status is not ``ok``; ``fields`` maps a dotted field path to
    one value per row (None where absent).
    """

    texts: list[str]
    statuses: list[Status]
    num_bytes: list[int]
    fields: Mapping[str, list[object]]

    def __len__(self) -> int:
        return len(self.texts)

    def ok(self) -> DocumentBatch:
        """Return only the rows whose status is ``ok``."""
        keep = [i for i, status in enumerate(self.statuses) if status is Status.OK]
        if len(keep) == len(self):
            return self
        return DocumentBatch(
            texts=[self.texts[i] for i in keep],
            statuses=[Status.OK] * len(keep),
            num_bytes=[self.num_bytes[i] for i in keep],
            fields={name: [values[i] for i in keep] for name, values in self.fields.items()},
        )


@dataclass(frozen=True, slots=True)
class Labels:
    """One agent's answer for N documents: a category index and the score behind it."""

    category_N: NDArray[np.uint16]
    score_N: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scores:
    """A scorer's answer for N documents; where ``known_N`` is false there is no score (and a 0)."""

    score_N: NDArray[np.float32]
    known_N: NDArray[np.bool_]


class Agent(Protocol):
    """Turns documents into one category each.

    ``fields`` are the corpus fields that it reads besides the text.
    """

    name: str
    categories: tuple[str, ...]
    fields: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """What changes whenever any label could change."""
        ...

    def label(self, batch: DocumentBatch) -> Labels:
        """Label a batch of ``ok`` documents; raises DataError for a value it cannot place."""
        ...


class Scorer(Protocol):
    """Turns documents into one number each, which bins turn into categories."""

    fields: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """What changes whenever any score could change."""
        ...

    def score(self, batch: DocumentBatch) -> Scores:
        """Score a batch of ``ok`` documents; raises DataError for a value it cannot read."""
        ...


@dataclass(frozen=True, slots=True)
class CategoryReward:
    """The mean reward of one category (positive = training on it lowers the reference loss)."""

    mean: float
    stderr: float
    num_docs: int
    share: float  # of the corpus's documents, in [0, 1]


CategoryRewards = Mapping[str, Mapping[str, CategoryReward]]
"""Agent name -> category name -> reward. A category that was not probed is absent."""


@dataclass(frozen=True, slots=True)
class DocumentRewards:
    """The rewards of N probed documents, and each one's category of every agent.

    ``category_NA`` holds category indices in the order of ``agents``; ``weight_N`` is 1 / sampling
    rate, and ``tokens_N`` the mean length of the documents that share all of its categories.
    """

    agents: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    category_NA: NDArray[np.uint16]
    reward_N: NDArray[np.float64]
    weight_N: NDArray[np.float64]
    tokens_N: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a round's rewards say: of categories, and of the documents behind them."""

    categories: CategoryRewards
    documents: DocumentRewards


Report = Callable[[str, int, int], None]
"""Is told (what, done, total); the unit is the caller's: rows, files, steps."""


@dataclass(frozen=True, slots=True)
class TrainingLosses:
    """What a round of training has met of one agent's categories; one that it did not is absent.

    ``loss`` is the sum over tokens, in nats; ``tokens`` counts those that had a loss.
    """

    agent: str
    loss: Mapping[str, float]
    tokens: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredRound:
    """The documents that a round has probed, and each one's finite reward."""

    number: int
    doc_N: NDArray[np.uint64]
    reward_N: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ConsoleState:
    """What the agent console knows: ``w`` per agent and category, ``theta`` per agent.

    ``memory`` is what the update rule ``rule`` has learnt besides; nobody else looks into it.
    """

    round: int
    weights: Mapping[str, Mapping[str, float]]
    theta: Mapping[str, float]
    rule: str = ""  # which made the state; empty before the first update
    memory: object | None = None


@dataclass(frozen=True, slots=True)
class Cells:
    """The cell index: documents that share one category per agent, C cells.

    ``category_CA`` holds category indices in the order of ``agents``; ``first_row_C`` is where
    the cell begins in ``index/order.parquet``. In a generation that a run has made of another one,
    the documents of a cell also share how often they were selected until then: ``uses_C``, None
    where nothing was.
    """

    agents: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    category_CA: NDArray[np.uint16]
    num_docs_C: NDArray[np.int64]
    num_tokens_C: NDArray[np.int64]
    first_row_C: NDArray[np.int64]
    uses_C: NDArray[np.int64] | None = None

    @property
    def prior_uses(self) -> NDArray[np.int64]:
        """How often each cell's documents were selected before the generation was made, (C,)."""
        return np.zeros(len(self), np.int64) if self.uses_C is None else self.uses_C

    def __len__(self) -> int:
        return len(self.num_docs_C)

    def by_category(self, agent: str, amount_C: NDArray[Any]) -> Floats:
        """Return how much of an amount of each cell falls to each of an agent's J categories."""
        column = self.agents.index(agent)
        size = len(self.categories[agent])
        return np.bincount(self.category_CA[:, column], amount_C, size).astype(np.float64)

    def of_agents(self, agents: Collection[str]) -> Cells:
        """Return the same cells as only some of their agents see them."""
        kept = [column for column, agent in enumerate(self.agents) if agent in agents]
        names = tuple(self.agents[column] for column in kept)
        return replace(
            self,
            agents=names,
            categories={name: self.categories[name] for name in names},
            category_CA=self.category_CA[:, kept],
        )


@dataclass(frozen=True, slots=True)
class ReferenceExample:
    """One item of a reference task: the loss counts on the continuation's tokens only."""

    context: str
    continuation: str

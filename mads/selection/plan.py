"""How much of which cell is selected: a pure function of scores, cursors and a budget.

Budgets and quotas are in one unit, tokens or documents. Suffix C: one value per cell, suffix L:
one per level. A cell's documents stand in one shuffled order and are taken from
it cyclically, so its whole usage is a cursor: documents before it were selected ``passes`` + 1
times, the others ``passes`` times, besides the prior uses that all of a cell share (those of before
the generation was made). A *level* is one of these two parts of a cell; all documents
of a level share one score. Where documents are taken in parts, a cursor may stand within one,
and what is said of documents holds of their tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from mads.config import SelectionConfig
from mads.seeds import derive, mix64, shuffled, uniform
from mads.selection.bounds import bounded_shares, find_bounds
from mads.selection.policies import POLICIES
from mads.selection.spread import spread_temperature
from mads.types import Cells, Floats, Ints
from mads.units import Unit

SCORE_DIGITS = 12
ROUNDING = 1e-6  # of a token or document; what floating point may add to a sum of quotas


def cell_sizes(cells: Cells, unit: Unit) -> Ints:
    """Return what each cell holds."""
    return cells.num_docs_C if unit == "docs" else cells.num_tokens_C


@dataclass(frozen=True, slots=True)
class Cursors:
    """How often each cell's documents were selected so far (see the module's text)."""

    passes_C: Ints
    row_C: Ints  # documents wholly before the cursor
    tokens_C: Ints  # tokens before the cursor
    inside_C: Ints  # those of them that belong to the document in which the cursor stands

    @staticmethod
    def start(num_cells: int) -> Cursors:
        """Return the cursors before any selection."""
        return Cursors(*(np.zeros(num_cells, np.int64) for _ in range(4)))

    def whole(self) -> Cursors:
        """Return the cursors for whole documents: one that was begun counts as not yet taken."""
        nothing_C = np.zeros_like(self.inside_C)
        return Cursors(self.passes_C, self.row_C, self.tokens_C - self.inside_C, nothing_C)

    def places(self, unit: Unit) -> Ints:
        """Return how much of each cell lies before its cursor."""
        return self.row_C if unit == "docs" else self.tokens_C


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to take from each cell, cyclically from its cursor, in ``unit``.

    ``whole_C`` of ``quota_C`` is taken in any case: levels that lie wholly above the cut. ``cut``
    lists the cells whose quota ends inside a level, in the order in which the rest of their
    quotas is rounded to whole documents: documents are taken while what was taken from the cells
    so far is less than their quotas so far. The sum of quotas is the budget, or all there is. So a
    budget of documents is met exactly, and one of tokens is exceeded by less than one document.

    With ``part_tokens`` documents are taken in parts of so many tokens, at most. Then the cells of
    ``cut`` that share categories stand together, those of the first agent before all, and the
    quotas are rounded by the chances ``draw_GK`` (``mads/selection/rounding.py``).
    """

    unit: Unit
    quota_C: Floats
    whole_C: Floats
    cut: Ints
    score_C: Floats  # of a document that was never selected
    cursors: Cursors
    part_tokens: int = 0  # 0 = whole documents
    draw_GK: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def total(self) -> int:
        """The sum of all quotas: what is selected, in documents, or just reached, in tokens."""
        return round(float(self.quota_C.sum()))

    def to_tokens(self, cells: Cells) -> Floats:
        """Return the tokens that the quotas stand for, by each cell's mean length."""
        if self.unit == "tokens":
            return self.quota_C
        return self.quota_C * cells.num_tokens_C / cells.num_docs_C


def decayed(score: Floats, uses: Ints, rate: float) -> Floats:
    """Return scores after ``uses`` selections: S / (1 + λn), or S·(1 + λn) when negative.

    A negative score must fall, not rise, with use.
    """
    factor = 1.0 + rate * uses
    return np.where(score >= 0, score / factor, score * factor)


def make_plan(
    cells: Cells,
    score_C: Floats,
    cursors: Cursors,
    budget: int,
    config: SelectionConfig,
    seed: int,
    unit: Unit = "tokens",
    part_tokens: int = 0,
) -> Plan:
    """Return the plan of one selection of ``budget`` tokens or documents by the recipe's policy.

    ``part_tokens``: a document is taken in parts of so many tokens, at most; 0 = as a whole.
    """
    assert unit == "tokens" or not part_tokens, "documents are counted as a whole"
    assert part_tokens or not cursors.inside_C.any(), "cursors for whole documents"
    policy = POLICIES[config.policy]
    if not policy.uses_scores:
        score_C = np.zeros(len(cells))
    warmth = spread_temperature(cells, score_C, config.temperature, config.least_entropy)
    config = replace(config, temperature=warmth)
    earlier_C = cursors.places(unit)
    later_C = cell_sizes(cells, unit) - earlier_C
    cell_L = np.concatenate([np.arange(len(cells))] * 2)
    passed_C = cells.prior_uses + cursors.passes_C
    uses_L = np.concatenate([passed_C, passed_C + 1])
    size_L = np.concatenate([later_C, earlier_C]).astype(np.float64)
    if config.max_passes:
        size_L = np.where(uses_L < config.max_passes, size_L, 0.0)
    score_L = np.round(decayed(score_C[cell_L], uses_L, config.decay), SCORE_DIGITS)

    def fill(open_L: Floats, goal: float) -> Floats:
        if goal >= open_L.sum():
            return np.ones_like(open_L)
        return policy.share(score_L, uses_L, open_L, goal, config)

    bounds = find_bounds(cells, config, cell_L)
    share_L = bounded_shares(size_L, budget, bounds, fill)
    quota_L = share_L * size_L
    whole_L = quota_L if policy.in_order else np.zeros_like(quota_L)
    quota_C = np.bincount(cell_L, quota_L, len(cells)).astype(np.float64)
    whole_L = np.where(share_L == 1.0, whole_L, 0.0)
    whole_C = np.bincount(cell_L, whole_L, len(cells)).astype(np.float64)
    partial = (share_L > 0) & (share_L < 1) & (size_L > 0)
    cells_cut = np.unique(cell_L[partial])
    names = cells_cut.astype(np.uint64)
    if not part_tokens:
        cut = cells_cut[shuffled(names, derive(seed, "cut"))]
        return Plan(unit, quota_C, whole_C, cut, score_C, cursors)
    cut = cells_cut[_together(cells, cells_cut, derive(seed, "cut"))]
    turns = range(len(cells.agents) + 1)
    draw_GK = np.stack([uniform(names, derive(seed, "draw", turn)) for turn in turns])
    return Plan(unit, quota_C, whole_C, cut, score_C, cursors, part_tokens, draw_GK)


def _together(cells: Cells, cell_K: Ints, seed: int) -> Ints:
    """Return the order of cells in which those that share categories stand together.

    Categories are in a seeded order; the first agent's come first, then the second's within, …
    """
    keys = [mix64(cell_K.astype(np.uint64), derive(seed, "cell"))]
    for column, agent in reversed(list(enumerate(cells.agents))):
        category_K = cells.category_CA[cell_K, column].astype(np.uint64)
        keys.append(mix64(category_K, derive(seed, agent)))
    return np.lexsort(keys)

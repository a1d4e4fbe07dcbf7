"""Quotas of cut cells are rounded to whole parts, up or down by chance, and categories keep theirs.

The part in which a cell's quota ends is taken with such a chance that the tokens are the quota's
on average, however long its parts are. The chances are settled together, so that what one cell has
too much another has too little: tokens are moved from cell to cell until each has nothing or all
of its last part. First where no category's sum changes (the cube method, Deville and Tillé 2004),
then for ever fewer agents, where none of the first ones' does, and last from neighbour to neighbour
(the pivotal method, 1998). Every move is as likely to go one way as the other, weighted by how far
it goes, so each cell keeps its tokens on average.

While one agent is left, at most one cell of each of its categories is not settled. So a category of
the first agent is off by less than one part, and others by a few parts at worst.

Suffix K: one value per cut cell, H: per category of any agent, G: per turn of chances.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mads.selection.plan import ROUNDING, Plan
from mads.types import Cells, Floats, Ints

SMALL = 1e-9  # relative to 1, a move's largest part: rounding of floating point


def shared_out(cells: Cells, plan: Plan, size_N: NDArray[Any], bounds: Ints) -> Ints:
    """Return how many parts to take of each cell of ``plan.cut``: its quota, up or down to one.

    Their sum is that of the quotas, or more by less than a part.
    """
    before_N = np.concatenate(([0], np.cumsum(size_N, dtype=np.int64)))
    begin_K = bounds[plan.cut]
    goal_K = before_N[begin_K] + plan.quota_C[plan.cut]
    last_K: Ints = np.maximum(np.searchsorted(before_N, goal_K - ROUNDING) - 1, begin_K)
    has_K = goal_K - before_N[last_K]
    size_K = np.append(size_N, 0)[last_K].astype(np.float64)
    num_names = sum(len(cells.categories[agent]) for agent in cells.agents)
    if plan.total >= num_names * plan.part_tokens:  # else a category has no part to balance
        columns_KA = _columns(cells, plan.cut)
        for agents in range(len(cells.agents), 0, -1):
            balance(has_K, size_K, columns_KA[:, :agents], plan.draw_GK[agents])
    settle(has_K, size_K, plan.draw_GK[0])
    return last_K - begin_K + (has_K > ROUNDING).astype(np.int64)


def _columns(cells: Cells, cell_K: Ints) -> Ints:
    """Return the categories of cells, shape (K, A), counted through over all agents."""
    sizes = np.array([len(cells.categories[agent]) for agent in cells.agents])
    columns_KA: Ints = cells.category_CA[cell_K] + (np.cumsum(sizes) - sizes)
    return columns_KA


def balance(has_K: Floats, size_K: Floats, category_KA: Ints, draw_K: Floats) -> None:
    """Move tokens between cells, in place, until few are left that have some of their part.

    No category's sum changes. Some cells are held, whose columns (1 for each of their categories)
    are independent; any other is a sum of theirs, which says what they give when it gains. With
    each such move one cell is settled.
    """
    num = int(category_KA.max(initial=-1)) + 1
    turn_HH = np.eye(num)  # turns a held cell's column into 1 at its place, 0 elsewhere
    held_H = np.full(num, -1)
    for at in np.flatnonzero((has_K > ROUNDING) & (has_K < size_K - ROUNDING)).tolist():
        way_H = turn_HH[:, category_KA[at]].sum(axis=1)
        free_H = np.where(held_H < 0, np.abs(way_H), 0.0)
        place = int(free_H.argmax())
        if free_H[place] <= SMALL:
            place = _move(has_K, size_K, held_H, way_H, at, float(draw_K[at]))
        if place >= 0:
            held_H[place] = at
            turn_HH[place] /= way_H[place]
            way_H[place] = 0.0
            turn_HH -= np.outer(way_H, turn_HH[place])


def _move(has_K: Floats, size_K: Floats, held_H: Ints, way_H: Floats, at: int, draw: float) -> int:
    """Move tokens between one cell and those held; return whose place it takes, -1 for none."""
    places = np.flatnonzero(np.abs(way_H) > SMALL)
    mine = np.append(held_H[places], at)
    way = np.append(-way_H[places], 1.0)
    below, above = has_K[mine] / np.abs(way), (size_K[mine] - has_K[mine]) / np.abs(way)
    forth, back = np.where(way > 0, above, below), np.where(way > 0, below, above)
    gain, loss = float(forth.min()), float(back.min())
    onward = draw * (gain + loss) < loss
    has_K[mine] += way * (gain if onward else -loss)
    settled = int((forth if onward else back).argmin())
    has_K[mine[settled]] = round(has_K[mine[settled]])  # 0 or all, which are whole numbers
    return -1 if settled == len(places) else int(places[settled])


def settle(has_K: Floats, size_K: Floats, draw_K: Floats) -> None:
    """Move tokens from neighbour to neighbour, in place, until each has nothing or all.

    One cell waits: it and the next one exchange tokens until one of them is settled. So what the
    cells so far have differs from their quotas by less than a part. The last one gets all.
    """
    has, size = has_K.tolist(), size_K.tolist()
    waiting = -1
    for at in np.flatnonzero((has_K > ROUNDING) & (has_K < size_K - ROUNDING)).tolist():
        if waiting < 0:
            waiting = at
            continue
        gain = min(size[waiting] - has[waiting], has[at])
        loss = min(has[waiting], size[at] - has[at])
        moved = gain if draw_K[at] * (gain + loss) < loss else -loss
        has[waiting] += moved
        has[at] -= moved
        unsettled = [k for k in (waiting, at) if ROUNDING < has[k] < size[k] - ROUNDING]
        waiting = unsettled[0] if unsettled else -1
    if waiting >= 0:
        has[waiting] = size[waiting]
    has_K[:] = has

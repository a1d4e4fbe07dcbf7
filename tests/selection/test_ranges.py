"""Ranges of selections that follow each other are joined."""

from __future__ import annotations

import pytest

from mads.selection.ranges import Range, joined_ranges


def part(cell: int, uses: int, start: int, stop: int) -> Range:
    return Range(cell, uses, 0.5, start, stop, 10 * start, 10 * stop)


def test_a_cells_rows_at_one_use_are_one_range() -> None:
    parts = [part(0, 0, 3, 5), part(1, 0, 0, 2), part(0, 0, 5, 9), part(0, 1, 0, 1)]
    assert joined_ranges(parts) == [part(0, 0, 3, 9), part(1, 0, 0, 2), part(0, 1, 0, 1)]
    assert (parts[0].num_docs, parts[0].num_tokens) == (2, 20)
    assert joined_ranges([]) == []


def test_a_gap_cannot_be() -> None:
    with pytest.raises(AssertionError, match="taken in its order"):
        joined_ranges([part(0, 0, 0, 2), part(0, 0, 3, 4)])

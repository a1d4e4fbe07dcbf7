"""Ranges: which rows of a cell a selection took. A plan is a list of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mads.codec import Count


@dataclass(frozen=True, slots=True)
class Range:
    """A run of rows of a cell with equal use.

    Rows and tokens are counted from the cell's first document; ``stop`` is not included. Where
    documents are taken in parts, the tokens may begin and end within the first and the last one.
    """

    cell: Count
    # Times that its documents were selected before, since the generation was made; the prior uses
    # of its cell come on top
    uses: Count
    score: float
    start_row: Count
    stop_row: Count
    start_tokens: Count
    stop_tokens: Count

    @property
    def num_docs(self) -> int:
        """Documents of the range, those of which it has parts included."""
        return self.stop_row - self.start_row

    @property
    def num_tokens(self) -> int:
        """Tokens of the range."""
        return self.stop_tokens - self.start_tokens


def joined_ranges(ranges: Iterable[Range]) -> list[Range]:
    """Join the ranges of selections that follow each other under one console state.

    A cell is taken in its order, so what they took of it at one use is one range.
    """
    found: dict[tuple[int, int], Range] = {}
    for part in ranges:
        key = part.cell, part.uses
        before = found.setdefault(key, part)
        if before is not part:
            assert part.start_tokens == before.stop_tokens, "a cell is taken in its order"
            assert part.start_row in (before.stop_row - 1, before.stop_row), "a row is skipped"
            stop = {"stop_row": part.stop_row, "stop_tokens": part.stop_tokens}
            found[key] = replace(before, **stop)
    return list(found.values())

"""A world of one, and one of two processes played by two threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mads.rewards.direction import dot, norm, preconditioned
from mads.training.world import ALONE, World

T = TypeVar("T")


class Threads(World):
    """One of ``size`` threads that meet at every exchange."""

    def __init__(
        self,
        rank: int,
        size: int,
        meeting: threading.Barrier,
        board: dict[int, NDArray[np.float64]],
    ) -> None:
        super().__init__(rank, size)
        object.__setattr__(self, "meeting", meeting)
        object.__setattr__(self, "board", board)

    meeting: threading.Barrier
    board: dict[int, NDArray[np.float64]]

    def sum(self, value_K: NDArray[np.float64]) -> NDArray[np.float64]:
        self.board[self.rank] = value_K
        self.meeting.wait()
        total: NDArray[np.float64] = np.sum([self.board[r] for r in range(self.size)], axis=0)
        self.meeting.wait()
        return total


def together(work: Callable[[World], T], size: int = 2) -> list[T]:
    """Return what each process of a world finds."""
    meeting = threading.Barrier(size)
    board: dict[int, NDArray[np.float64]] = {}
    with ThreadPoolExecutor(size) as pool:
        worlds = [Threads(rank, size, meeting, board) for rank in range(size)]
        return list(pool.map(work, worlds))


def test_alone_every_exchange_gives_back_what_it_was_given() -> None:
    assert ALONE.is_main
    assert ALONE.sum(np.array([1.0, 2.0])).tolist() == [1.0, 2.0]
    assert ALONE.total(3) == 3.0
    assert (ALONE.any(True), ALONE.any(False)) == (True, False)
    assert ALONE.broadcast("x") == "x"
    ALONE.barrier()


def test_two_agree_on_sums_and_flags() -> None:
    assert together(lambda world: world.is_main) == [True, False]
    assert together(lambda world: world.total(world.rank + 1)) == [3.0, 3.0]
    assert together(lambda world: world.any(world.rank == 1)) == [True, True]
    assert together(lambda world: world.any(False)) == [False, False]


def test_norms_and_dot_products_over_parts_are_those_of_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    whole = {name: torch.randn(6, 3, generator=generator) for name in ("a", "b")}
    other = {name: torch.randn(6, 3, generator=generator) for name in ("a", "b")}

    def part(vector: dict[str, torch.Tensor], world: World) -> dict[str, torch.Tensor]:
        return {name: value[world.rank :: world.size] for name, value in vector.items()}

    norms = together(lambda world: norm(part(whole, world), world))
    assert norms == pytest.approx([norm(whole, ALONE)] * 2)
    dots = together(lambda world: dot(part(whole, world), part(other, world), world))
    assert dots == pytest.approx([dot(whole, other, ALONE)] * 2)
    squares = {name: value.square() for name, value in other.items()}
    expected = preconditioned(whole, squares, 0.1, ALONE)
    found = together(
        lambda world: preconditioned(part(whole, world), part(squares, world), 0.1, world)
    )
    for rank, parts in enumerate(found):
        for name, value in parts.items():
            assert torch.allclose(value, expected[name][rank::2])

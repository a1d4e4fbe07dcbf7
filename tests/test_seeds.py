"""Seeds and hashes are the same on every machine, in every release and in any order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mads.seeds import derive, mix64, shuffled, uniform

uint64s = st.integers(0, 2**64 - 1)


def split_mix(value: int, seed: int) -> int:
    """SplitMix64 in plain integers."""
    mask = 2**64 - 1
    x = (value * 0x9E3779B97F4A7C15 + seed) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_derived_seeds_are_fixed_and_differ_by_purpose() -> None:
    assert derive(0, "order", 1) == 7636051531545546627
    seeds = [derive(0), derive(1), derive(0, "a"), derive(0, "b"), derive(0, "a", 1)]
    assert len(set(seeds)) == len(seeds)
    assert derive(0, "a", "b") != derive(0, "ab")
    assert all(0 <= seed < 2**64 for seed in seeds)


@given(st.lists(uint64s, min_size=1), st.integers(-(2**64), 2**65))
def test_the_hash_is_split_mix(values: list[int], seed: int) -> None:
    found = mix64(np.array(values, np.uint64), seed)
    assert found.tolist() == [split_mix(value, seed) for value in values]


def test_uniform_numbers_are_uniform() -> None:
    numbers = uniform(np.arange(20_000, dtype=np.uint64), 3)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=20, range=(0, 1))[0]
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)


@given(st.lists(uint64s, unique=True), uint64s)
def test_a_shuffle_does_not_depend_on_the_order_it_gets(values: list[int], seed: int) -> None:
    array = np.array(values, np.uint64)
    other = array[np.random.default_rng(len(values)).permutation(len(values))]
    first, second = array[shuffled(array, seed)], other[shuffled(other, seed)]
    assert first.tolist() == second.tolist()
    assert sorted(first.tolist()) == sorted(values)


def test_another_seed_is_another_shuffle() -> None:
    values = np.arange(100, dtype=np.uint64)
    assert shuffled(values, 0).tolist() != shuffled(values, 1).tolist()

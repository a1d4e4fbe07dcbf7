"""The shared sample: every category gets its probes, and its mean is unbiased."""

from __future__ import annotations

import numpy as np
import pytest

from mads.rewards.categories import (
    MIN_PROBES,
    adapted_sizes,
    category_rewards,
    choose_probes,
    equal_sizes,
    probe_tokens,
    sampling_counts,
    spread_of,
)
from mads.types import CategoryReward, Cells


def two_agents() -> Cells:
    """Return a skewed index: quality (2) x topic (3), from 1 to 900 documents per cell."""
    category = [(q, t) for q in range(2) for t in range(3)]
    docs = np.array([900, 40, 7, 60, 300, 1])
    return Cells(
        agents=("quality", "topic"),
        categories={"quality": ("low", "high"), "topic": ("x", "y", "z")},
        category_CA=np.array(category, np.uint16),
        num_docs_C=docs,
        num_tokens_C=docs * 10,
        first_row_C=np.cumsum(docs) - docs,
    )


def test_sampling_counts_by_hand() -> None:
    cells = two_agents()
    counts = sampling_counts(cells, equal_sizes(cells, 16))
    # quality: low 947, high 361 documents; topic: x 960, y 340, z 8.
    rates = [
        max(16 / 947, 16 / 960),
        max(16 / 947, 16 / 340),
        1.0,
        max(16 / 361, 16 / 960),
        max(16 / 361, 16 / 340),
        1.0,
    ]
    assert counts == pytest.approx(np.array(rates) * cells.num_docs_C)


def test_probes_lie_in_their_cells_and_are_distinct() -> None:
    cells = two_agents()
    for seed in range(20):
        probes = choose_probes(cells, equal_sizes(cells, 16), seed)
        first = cells.first_row_C[probes.cell_N]
        assert np.all(probes.row_N >= first)
        assert np.all(probes.row_N < first + cells.num_docs_C[probes.cell_N])
        assert len(np.unique(probes.row_N)) == len(probes.row_N)
        counts = np.bincount(probes.cell_N, minlength=6)
        assert np.all(np.abs(counts - sampling_counts(cells, equal_sizes(cells, 16))) < 1)


def test_category_means_are_unbiased() -> None:
    """The mean over many samples is the mean over all documents of the category."""
    cells = two_agents()
    rng = np.random.default_rng(0)
    true_N = rng.normal(size=int(cells.num_docs_C.sum()))
    cell_N = np.repeat(np.arange(6), cells.num_docs_C)
    true_N += cell_N  # cells differ, so a mean without weights would be off
    found: dict[tuple[str, str], list[float]] = {}
    errors: dict[tuple[str, str], list[float]] = {}
    for seed in range(400):
        probes = choose_probes(cells, equal_sizes(cells, 16), seed)
        rewards = category_rewards(cells, probes.cell_N, probes.weight_N, true_N[probes.row_N])
        for agent, table in rewards.items():
            for name, reward in table.items():
                found.setdefault((agent, name), []).append(reward.mean)
                errors.setdefault((agent, name), []).append(reward.stderr)
    for column, agent in enumerate(cells.agents):
        for index, name in enumerate(cells.categories[agent]):
            true = true_N[cells.category_CA[cell_N, column] == index].mean()
            means = np.array(found[agent, name])
            assert means.mean() == pytest.approx(true, abs=4 * means.std() / 20 + 0.02)
            # Stratified by cell, so the simple standard error errs on the safe side.
            assert np.mean(errors[agent, name]) > 0.8 * means.std()


def test_equation_4_by_hand() -> None:
    cells = two_agents()
    cell_N = np.array([0, 0, 3, 1])
    weight_N = np.array([2.0, 2.0, 1.0, 4.0])
    rewards = category_rewards(cells, cell_N, weight_N, np.array([1.0, 3.0, 10.0, -1.0]))
    low = rewards["quality"]["low"]
    assert low.mean == pytest.approx((2 * 1 + 2 * 3 + 4 * -1) / 8)
    assert low.num_docs == 3
    assert low.share == pytest.approx(947 / 1308)
    spread = 2**2 * 0.5**2 + 2**2 * 2.5**2 + 4**2 * 1.5**2
    assert low.stderr == pytest.approx((spread * 3 / 2) ** 0.5 / 8)
    x = rewards["topic"]["x"]
    assert x.mean == pytest.approx((2 * 1 + 2 * 3 + 1 * 10) / 5)


def test_a_category_with_fewer_than_two_probes_is_absent_not_zero() -> None:
    """Mistake 6: empty categories crashed or counted as zero."""
    cells = two_agents()
    rewards = category_rewards(cells, np.array([0, 0, 4]), np.ones(3), np.array([1.0, 2.0, 3.0]))
    assert set(rewards["quality"]) == {"low"}
    assert set(rewards["topic"]) == {"x"}


def test_a_budget_of_tokens_is_used_and_not_exceeded() -> None:
    cells = two_agents()
    for tokens in (1500, 4000, 9000):
        wanted = adapted_sizes(cells, {}, tokens, context=8)
        assert 0.99 * tokens < probe_tokens(cells, wanted, context=8) <= tokens
    # Ten tokens a document, of which a window of 8 is read; all 1,308 fit.
    wanted = adapted_sizes(cells, {}, 10**9, context=8)
    assert probe_tokens(cells, wanted, context=8) == pytest.approx(1308 * 8)


def test_documents_go_where_rewards_spread() -> None:
    """Numbers go with the variance, so that standard errors become equal."""
    cells = two_agents()
    spread = {"quality": {"low": 1.0, "high": 2.0}, "topic": {"x": 1.0, "y": 1.0, "z": 1.0}}
    wanted = adapted_sizes(cells, spread, 3000, context=10)
    assert wanted["quality"][1] == pytest.approx(4 * wanted["quality"][0])
    assert wanted["topic"] == pytest.approx(np.full(3, wanted["quality"][0]))
    unknown = adapted_sizes(cells, {"quality": {"low": 1.0}}, 3000, context=10)
    assert unknown["quality"][1] == pytest.approx(unknown["quality"][0])
    calm = {"quality": {"low": 1.0, "high": 0.0}, "topic": {"x": 1.0, "y": 1.0, "z": 1.0}}
    assert adapted_sizes(cells, calm, 3000, context=10)["quality"][1] == MIN_PROBES


def test_spread_by_hand() -> None:
    rewards = {"q": {"a": CategoryReward(1.0, 0.5, 16, 0.5)}}
    assert spread_of(rewards) == {"q": {"a": 2.0}}

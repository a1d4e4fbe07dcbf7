"""What every back-end promises: add a line to ``CONFIGS`` for a new one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mads.agents import BACKENDS, open_agent
from mads.config import AgentConfig
from mads.errors import UsageError
from mads.types import TO_BIN, Agent, DocumentBatch, Status

CONFIGS = {
    "fasttext": ("topic", AgentConfig()),
    "fasttext-ordinal": ("quality", AgentConfig()),
    "fasttext-quantiles": ("quality", AgentConfig(quantiles=3)),
    "column": (
        "kind",
        AgentConfig(backend="column", field="kind", categories=("a", "b"), other="b"),
    ),
    "column-edges": (
        "level",
        AgentConfig(backend="column", field="level", categories=("low", "high"), edges=(2.5,)),
    ),
    "column-quantiles": ("level", AgentConfig(backend="column", field="level", quantiles=2)),
}
TEXTS = [
    "The senate passed a law on taxes.",
    "",
    "\n\x00\ud800",
    "def f(x):\n    return x",
    "Bake the cake for an hour at 180 degrees. " * 2_000,
    "医学研究",
]


def batch(rows: list[int]) -> DocumentBatch:
    fields: dict[str, list[object]] = {
        "kind": [["a", "b", None][i % 3] for i in rows],
        "level": list(rows),
    }
    texts = [TEXTS[i] for i in rows]
    return DocumentBatch(texts, [Status.OK] * len(rows), [len(text) for text in texts], fields)


def test_every_back_end_is_under_contract() -> None:
    assert {config.backend for _, config in CONFIGS.values()} == set(BACKENDS)


@pytest.fixture(params=CONFIGS)
def agent(request: pytest.FixtureRequest) -> Agent:
    return open_agent(*CONFIGS[request.param])


def test_labels_fit_the_categories(agent: Agent) -> None:
    labels = agent.label(batch([0, 1, 2, 3, 4, 5]))
    assert labels.category_N.shape == labels.score_N.shape == (6,)
    assert labels.category_N.dtype == np.uint16
    assert labels.score_N.dtype == np.float32
    if agent.quantiles:
        assert len(agent.categories) == agent.quantiles
        assert labels.category_N.tolist() == [TO_BIN] * 6
    else:
        assert (labels.category_N < len(agent.categories)).all()
    assert np.isfinite(labels.score_N).all()
    assert len(set(agent.categories)) == len(agent.categories) >= 2
    assert len(agent.fingerprint) == 64


def test_a_label_depends_on_its_own_document_only(agent: Agent) -> None:
    together = agent.label(batch([0, 1, 2, 3, 4, 5]))
    backwards = agent.label(batch([5, 4, 3, 2, 1, 0]))
    assert backwards.category_N[::-1].tolist() == together.category_N.tolist()
    assert backwards.score_N[::-1].tolist() == together.score_N.tolist()
    for i in range(6):
        alone = agent.label(batch([i]))
        assert alone.category_N.tolist() == [together.category_N[i]]
        assert alone.score_N.tolist() == [together.score_N[i]]


def test_an_empty_batch_has_no_labels(agent: Agent) -> None:
    labels = agent.label(batch([]))
    assert (labels.category_N.shape, labels.score_N.shape) == ((0,), (0,))
    assert labels.category_N.dtype == np.uint16
    assert labels.score_N.dtype == np.float32


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_section_opens_the_same_agent(name: str) -> None:
    assert open_agent(*CONFIGS[name]).fingerprint == open_agent(*CONFIGS[name]).fingerprint


def test_fingerprints_differ() -> None:
    assert len({open_agent(*config).fingerprint for config in CONFIGS.values()}) == len(CONFIGS)


def test_an_unknown_back_end_is_refused() -> None:
    config = AgentConfig(backend="colunm")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"agents\.a\.backend: 'colunm' .* mean 'column'\?"):
        open_agent("a", config)


def test_importing_the_package_imports_no_back_end() -> None:
    code = "import sys, mads.agents; print({'fasttext', 'mads.agents.column'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

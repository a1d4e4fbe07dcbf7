"""What every back-end promises: add a line to ``CONFIGS`` for a new one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from agents.arrays import toy_clusters, toy_target
from toys import write_jsonl

from mads.agents import BACKENDS, open_agent
from mads.agents.agent import QuantileBins, prepare
from mads.agents.cluster import ClusterConfig
from mads.agents.column import ColumnConfig
from mads.agents.fasttext_agent import FastTextConfig
from mads.agents.perplexity import PerplexityConfig
from mads.agents.python import PythonConfig
from mads.agents.table.agent import TableConfig
from mads.agents.target import TargetConfig
from mads.agents.transformer import TransformerConfig
from mads.config import AgentConfig
from mads.types import FILE, ID, ROW, Agent, DocumentBatch, Status

CONFIGS: dict[str, tuple[str, AgentConfig]] = {
    "fasttext": ("topic", FastTextConfig("fasttext")),
    "fasttext-ordinal": ("quality", FastTextConfig("fasttext")),
    "fasttext-quantiles": ("quality", FastTextConfig("fasttext", quantiles=3)),
    "column": (
        "kind",
        ColumnConfig("column", field="kind", categories=("a", "b"), other="b"),
    ),
    "column-edges": (
        "level",
        ColumnConfig("column", field="level", categories=("low", "high"), edges=(2.5,)),
    ),
    "column-quantiles": ("level", ColumnConfig("column", field="level", quantiles=2)),
    "cluster": ("topics", ClusterConfig("cluster", str(toy_clusters()))),
    "target": ("wanted", TargetConfig("target", str(toy_target()), quantiles=4)),
}
TEXTS = [
    "The senate passed a law on taxes.",
    "",
    "\n\x00\ud800",
    "def f(x):\n    return x",
    "Bake the cake for an hour at 180 degrees. " * 2_000,
    "医学研究",
]
LINES = """
class Lines:
    categories = ("few", "many")
    def label(self, texts):
        return ["many" if "\\n" in text else None for text in texts]
"""
CORPUS_FILE = "corpus/part.jsonl"


def opened(name: str, config: AgentConfig, folder: Path) -> Agent | QuantileBins:
    """Open an agent as annotate does."""
    agent = open_agent(name, config)
    prepare(agent, folder / name, {CORPUS_FILE: len(TEXTS)})
    return agent


def batch(rows: list[int]) -> DocumentBatch:
    fields: dict[str, list[object]] = {
        "kind": [["a", "b", None][i % 3] for i in rows],
        "level": list(rows),
    }
    own: dict[str, list[object]] = {
        ID: [f"id-{i}" for i in rows],
        FILE: [CORPUS_FILE] * len(rows),
        ROW: list(rows),
    }
    fields |= own
    texts = [TEXTS[i] for i in rows]
    return DocumentBatch(texts, [Status.OK] * len(rows), [len(text) for text in texts], fields)


@pytest.fixture(scope="session")
def configs(
    tiny_lm: Path, make_bert: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, AgentConfig]]:
    """All sections, also those that need a file."""
    perplexity = PerplexityConfig("perplexity", model=str(tiny_lm), quantiles=2)
    bert = make_bert("news", "fiction", "code")
    folder = tmp_path_factory.mktemp("files")
    (folder / "lines.py").write_text(LINES)
    code = f"{folder / 'lines.py'}:Lines"
    rows = [{"id": f"id-{i}", "kind": "ab"[i % 2], "level": i} for i in (4, 2, 0, 5, 1, 3)]
    table = str(write_jsonl(folder / "table.jsonl", rows))
    named = TableConfig("table", field="kind", categories=("a", "b"), id="id", files=(table,))
    levels = TableConfig("table", field="level", quantiles=2, files=(table,))
    return {
        **CONFIGS,
        "perplexity": ("surprise", perplexity),
        "python": ("lines", PythonConfig("python", code=code, other="few")),
        "transformer": ("kind", TransformerConfig("transformer", model=str(bert), device="cpu")),
        "table-id": ("named", named),
        "table-rows": ("levels", levels),
    }


NAMES = [*CONFIGS, "perplexity", "python", "transformer", "table-id", "table-rows"]


def test_every_back_end_is_under_contract(configs: dict[str, tuple[str, AgentConfig]]) -> None:
    assert {config.backend for _, config in configs.values()} == set(BACKENDS)
    assert list(configs) == NAMES


@pytest.fixture(params=NAMES)
def agent(
    request: pytest.FixtureRequest, configs: dict[str, tuple[str, AgentConfig]], tmp_path: Path
) -> Agent | QuantileBins:
    return opened(*configs[request.param], tmp_path)


def answers(agent: Agent | QuantileBins, rows: list[int]) -> tuple[list[int], list[float]]:
    """Return categories (or, of an agent that only scores, which are known) and scores."""
    if isinstance(agent, QuantileBins):
        scores = agent.score(batch(rows))
        assert scores.score_N.dtype == np.float32
        assert scores.known_N.dtype == np.bool_
        return scores.known_N.tolist(), scores.score_N.tolist()
    labels = agent.label(batch(rows))
    assert labels.category_N.dtype == np.uint16
    assert labels.score_N.dtype == np.float32
    assert (labels.category_N < len(agent.categories)).all()
    return labels.category_N.tolist(), labels.score_N.tolist()


def test_answers_fit_the_documents(agent: Agent | QuantileBins) -> None:
    first, scores = answers(agent, [0, 1, 2, 3, 4, 5])
    assert len(first) == len(scores) == 6
    assert np.isfinite(scores).all()
    assert len(set(agent.categories)) == len(agent.categories) >= 2
    assert len(agent.fingerprint) == 64


def test_an_answer_depends_on_its_own_document_only(agent: Agent | QuantileBins) -> None:
    together = answers(agent, [0, 1, 2, 3, 4, 5])
    backwards = answers(agent, [5, 4, 3, 2, 1, 0])
    assert (backwards[0][::-1], backwards[1][::-1]) == together
    for i in range(6):
        assert answers(agent, [i]) == ([together[0][i]], [together[1][i]])


def test_an_empty_batch_has_no_answers(agent: Agent | QuantileBins) -> None:
    assert answers(agent, []) == ([], [])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_section_opens_the_same_agent(
    name: str, configs: dict[str, tuple[str, AgentConfig]]
) -> None:
    assert open_agent(*configs[name]).fingerprint == open_agent(*configs[name]).fingerprint


def test_fingerprints_differ(configs: dict[str, tuple[str, AgentConfig]]) -> None:
    assert len({open_agent(*config).fingerprint for config in configs.values()}) == len(configs)


def test_importing_the_package_imports_nothing_that_is_slow() -> None:
    slow = {"fasttext", "safetensors", "sklearn", "torch"}
    code = f"import sys, mads.agents; print({slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

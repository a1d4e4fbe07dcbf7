"""Agents that bin by quantiles: first the scores of the whole corpus, then edges, then categories.

The workers write such an agent's scores shard by shard. When all are there, the exact edges are
found and noted in the spec, the memories are written with them, and the scores are deleted. Each
step is repeatable, so a killed call goes on, and the edges depend on the corpus and the agent
alone. When the corpus grows, the edges stay, since nothing old is made anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mads.agents.agent import QuantileBins, bin_numbers
from mads.annotate.quantiles import quantile_edges
from mads.layout import StoreDir
from mads.store.documents import selectable
from mads.store.manifest import write_spec
from mads.store.memory import doc_numbers, read_header, read_scores, write_memory
from mads.store.spec import StoreSpec
from mads.types import NO_CATEGORY, Agent, Labels, Report, Scores


def bin_scores(
    store: StoreDir,
    spec: StoreSpec,
    agents: Mapping[str, Agent | QuantileBins],
    on_progress: Report,
) -> StoreSpec:
    """Turn the scores of agents with quantiles into memories; return the spec with their edges.

    Raises DataError for a file of scores that was made from something else or was changed.
    """
    for name, agent in agents.items():
        if not isinstance(agent, QuantileBins):
            continue
        info = spec.agents[name]
        if info.edges is None:
            edges = _find_edges(store, spec, agent)
            info = replace(info, edges=edges)
            spec = replace(spec, agents={**spec.agents, name: info})
            write_spec(store, spec)
        todo = [i for i in range(len(spec.shards)) if not _is_binned(store, spec, name, i)]
        for done, shard in enumerate(todo):
            _write_binned(store, spec, agent, shard)
            on_progress(f"bin the scores of {name}", done + 1, len(todo))
        shutil.rmtree(store.scores(info.folder), ignore_errors=True)
    return spec


def _is_binned(store: StoreDir, spec: StoreSpec, name: str, shard: int) -> bool:
    path = store.memory_shard(spec.agents[name].folder, shard)
    return path.is_file() and read_header(path) == spec.memory_header(name, shard)


def _find_edges(store: StoreDir, spec: StoreSpec, agent: QuantileBins) -> tuple[float, ...]:
    def scores() -> Iterator[NDArray[np.float32]]:
        for shard in range(len(spec.shards)):
            found = _read_scores(store, spec, agent.name, shard)
            # Rows that are not ok have no score, also where a missing one counts as 0.
            is_ok, _ = selectable(store.documents(shard))
            yield found.score_N[found.known_N & is_ok]

    return quantile_edges(scores, agent.num_bins)


def _read_scores(store: StoreDir, spec: StoreSpec, name: str, shard: int) -> Scores:
    path = store.scores_shard(spec.agents[name].folder, shard)
    return read_scores(path, spec.scores_header(name, shard), shard, spec.shards[shard].num_rows)


def _write_binned(store: StoreDir, spec: StoreSpec, agent: QuantileBins, shard: int) -> None:
    info = spec.agents[agent.name]
    assert info.edges is not None
    num_rows = spec.shards[shard].num_rows
    scores = _read_scores(store, spec, agent.name, shard)
    is_ok, _ = selectable(store.documents(shard))
    category_N = bin_numbers(scores.score_N, info.edges)
    if agent.other is not None:
        category_N[~scores.known_N] = agent.other
    category_N[~is_ok] = NO_CATEGORY
    path = store.memory_shard(info.folder, shard)
    header = spec.memory_header(agent.name, shard)
    write_memory(path, header, doc_numbers(shard, num_rows), Labels(category_N, scores.score_N))

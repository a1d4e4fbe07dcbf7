"""Agents that bin by quantiles: first the scores of the whole corpus, then edges, then categories.

The workers write such an agent's scores shard by shard, in files like a memory whose categories
are still to come. When all are there, the exact edges are found and noted in the spec, the
memories are written with them, and the scores are deleted. Each step is repeatable, so a killed
call goes on, and the edges depend on the corpus and the agent alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mads.agents.agent import QuantileBins, bin_numbers
from mads.annotate.quantiles import quantile_edges
from mads.files import write_json
from mads.layout import StoreDir
from mads.store.index import ok_rows
from mads.store.memory import doc_numbers, read_scores, write_memory
from mads.store.sealed import read_sealed
from mads.store.spec import StoreSpec
from mads.types import NO_CATEGORY, Agent, Labels, Scores


def bin_scores(
    store: StoreDir,
    spec: StoreSpec,
    agents: Mapping[str, Agent | QuantileBins],
    on_progress: Callable[[str, int, int], None],
) -> StoreSpec:
    """Turn the scores of agents with quantiles into memories; return the spec with their edges.

    Raises DataError for a file of scores that was made from something else or was changed.
    """
    for name, agent in agents.items():
        if not isinstance(agent, QuantileBins):
            continue
        info = spec.agents[name]
        todo = [
            shard
            for shard in range(len(spec.shards))
            if not store.memory_shard(name, shard).is_file()
        ]
        if todo and info.edges is None:
            edges = _find_edges(store, spec, name, len(agent.categories))
            info = replace(info, edges=edges)
            spec = replace(spec, agents={**spec.agents, name: info})
            write_json(store.spec, spec.to_json())
        for done, shard in enumerate(todo):
            _write_binned(store, spec, agent, shard)
            on_progress(f"bin the scores of {name}", done + 1, len(todo))
        shutil.rmtree(store.scores(name), ignore_errors=True)
    return spec


def _find_edges(store: StoreDir, spec: StoreSpec, name: str, num_bins: int) -> tuple[float, ...]:
    def scores() -> Iterator[NDArray[np.float32]]:
        for shard in range(len(spec.shards)):
            scores = _read_scores(store, spec, name, shard)
            yield scores.score_N[scores.known_N]

    return quantile_edges(scores, num_bins)


def _read_scores(store: StoreDir, spec: StoreSpec, name: str, shard: int) -> Scores:
    header = spec.scores_header(name)
    num_rows = spec.shards[shard].num_rows
    return read_scores(store.scores_shard(name, shard), header, shard, num_rows)


def _write_binned(store: StoreDir, spec: StoreSpec, agent: QuantileBins, shard: int) -> None:
    info = spec.agents[agent.name]
    assert info.edges is not None
    num_rows = spec.shards[shard].num_rows
    scores = _read_scores(store, spec, agent.name, shard)
    category_N = bin_numbers(scores.score_N, info.edges)
    if agent.other is not None:
        category_N[~scores.known_N] = agent.other
    category_N[~_is_ok(store, shard)] = NO_CATEGORY
    labels = Labels(category_N, scores.score_N)
    path = store.memory_shard(agent.name, shard)
    write_memory(path, spec.memory_header(agent.name), doc_numbers(shard, num_rows), labels)


def _is_ok(store: StoreDir, shard: int) -> NDArray[np.bool_]:
    return ok_rows(read_sealed(store.documents(shard), ["status"])["status"])

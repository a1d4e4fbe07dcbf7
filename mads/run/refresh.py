"""Learned influence in the loop: a generation of the run's own, with one more agent.

    rewards of the latest rounds -> a model that guesses rewards from texts -> bins of all documents
    -> cells by all agents' categories, the new bins, and how often documents were selected so far

While the model that is trained changes, so does what helps it; the influence model is fitted anew
every few rounds, and the console goes on with its bins (r1 holds the lowest guesses) as with any
agent's categories. Bins have as many documents each, so that they mean the same after each fit.
The run's folder holds what is new, the store stays as it is. Source: MATES (Yu et al. 2024).
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mads.agents.agent import QuantileBins, bin_numbers
from mads.agents.fasttext_agent import FastTextScorer
from mads.agents.fasttext_model import FastTextModel
from mads.annotate.quantiles import quantile_edges
from mads.config import INFLUENCE, Recipe
from mads.layout import REFRESHED, RefreshDir, StoreDir
from mads.rewards.influence import LEAST_DOCS, Influence, fit_influence, mean_ranks
from mads.run.reader import RunRound, measured
from mads.run.records import RefreshRecord
from mads.seeds import derive
from mads.selection.plan import Cursors
from mads.selection.uses import prior_uses
from mads.store.build import build_index, index_seals
from mads.store.manifest import Generation
from mads.store.memory import doc_numbers, write_memory
from mads.store.refreshed import write_refreshed
from mads.store.spec import AgentInfo, StoreSpec
from mads.store.store import Store
from mads.strategies.console import Console
from mads.strategies.strategy import Strategy
from mads.types import NO_CATEGORY, DocumentBatch, Labels, Status
from mads.units import parse_bytes

DECODED = 256  # documents whose texts are in RAM at once
Note = Callable[[str], None]


def is_due(number: int, store: Store, strategy: Strategy, recipe: Recipe) -> bool:
    """Tell whether round ``number`` begins with a fit.

    It waits until the console has listened to rewards: those that do not repeat themselves teach
    nothing.
    """
    config = recipe.influence
    if not config.every or number < config.first or not strategy.learned:
        return False
    return not store.refresh or number - store.refresh >= config.every


def refresh(
    store: Store,
    own: RefreshDir,
    rounds: Sequence[RunRound],
    cursors: Cursors,
    recipe: Recipe,
    note: Note,
) -> RefreshRecord | None:
    """Fit, label and make the generation in ``own``; ``cursors`` are those of ``store``.

    What a killed call has left is made anew; generation.json, written last, makes it complete.
    Returns None, with a note, where too few documents were probed. Raises DataError for damage.
    """
    begun = time.perf_counter()
    found = measured(rounds, recipe.influence.rounds)
    probed = len(mean_ranks(found)[0]) if found else 0
    if probed < LEAST_DOCS:
        note(
            f"round {own.number}: influence is not fitted yet: {probed} documents were probed, "
            f"{LEAST_DOCS} are needed. Raise rewards.probes_per_category, or influence.rounds."
        )
        return None
    note(f"round {own.number}: fitting influence, and labelling all documents with it …")
    shutil.rmtree(own.root, ignore_errors=True)
    own.root.mkdir(parents=True)
    seed = derive(recipe.seed, "influence", own.number)
    source = str(own.root.parent.parent)
    fit = fit_influence(store, found, source, own.model, recipe.influence.bins, seed)
    target = StoreDir(store.dir.root, own)
    spec = _label(store.base, target, own, recipe.influence.bins)
    uses = prior_uses(store, cursors)
    ram, seals = parse_bytes(recipe.index_ram), store.base.content
    cells, docs = build_index(target, spec, own, ram, lambda _: None, seals, uses)
    facts = Generation(
        num_shards=len(spec.shards),
        agents=spec.agents,
        fingerprint="",
        cells=cells,
        docs=docs,
        documents=store.base.facts.documents,
        files=index_seals(target, own),
    )
    write_refreshed(own, store.base.fingerprint, facts)
    record = _record(fit, cells, time.perf_counter() - begun)
    note(_told(own.number, record, docs))
    return record


def joined(strategy: Strategy, store: Store) -> Console:
    """Return the console with the agent of the store's new generation."""
    assert isinstance(strategy, Console), "the recipe was checked"
    return strategy.with_agent(INFLUENCE, store.cells.categories[INFLUENCE])


def _label(store: Store, target: StoreDir, own: RefreshDir, bins: int) -> StoreSpec:
    """Write the memory of the new agent; return what the new generation is made from.

    Takes four bytes of RAM for each row of the corpus: the scores, whose quantiles are the edges.
    """
    names = tuple(f"r{i + 1}" for i in range(bins))
    agent = QuantileBins(INFLUENCE, FastTextScorer(FastTextModel(own.model)), names)
    is_ok = [store.documents(shard).is_ok() for shard in range(len(store.spec.shards))]
    scores = [_scores(store, agent, shard, ok_N) for shard, ok_N in enumerate(is_ok)]
    edges = quantile_edges(lambda: (s[k] for s, k in zip(scores, is_ok, strict=True)), bins)
    info = AgentInfo(names, agent.fingerprint, REFRESHED, edges)
    spec = replace(store.spec, agents={**store.spec.agents, INFLUENCE: info})
    for shard, (score_N, ok_N) in enumerate(zip(scores, is_ok, strict=True)):
        category_N = bin_numbers(score_N, edges)
        category_N[~ok_N] = NO_CATEGORY
        path, header = target.memory_shard(REFRESHED, shard), spec.memory_header(INFLUENCE, shard)
        write_memory(path, header, doc_numbers(shard, len(ok_N)), Labels(category_N, score_N))
    return spec


def _scores(
    store: Store, agent: QuantileBins, shard: int, is_ok: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the scores of a shard's rows; a row that no agent reads has 0."""
    score_N = np.zeros(len(is_ok), np.float32)
    doc_N, row_N = doc_numbers(shard, len(is_ok))[is_ok], np.flatnonzero(is_ok)
    for first in range(0, len(doc_N), DECODED):
        here = slice(first, first + DECODED)
        score_N[row_N[here]] = agent.score(_batch(store, doc_N[here])).score_N
    return score_N


def _batch(store: Store, doc_N: NDArray[np.uint64]) -> DocumentBatch:
    """Return documents as an agent reads them; the texts are those of the tokens."""
    texts = store.texts(doc_N)
    return DocumentBatch(texts, [Status.OK] * len(texts), [0] * len(texts), {})


def _record(fit: Influence, cells: int, seconds: float) -> RefreshRecord:
    spearman = fit.spearman if math.isfinite(fit.spearman) else None
    return RefreshRecord(seconds, fit.rounds, fit.documents, fit.held_out, spearman, cells)


def _told(number: int, record: RefreshRecord, docs: int) -> str:
    known = "unknown" if record.spearman is None else f"{record.spearman:.2f}"
    return (
        f"round {number}: influence was fitted to {record.documents:,} documents of rounds "
        f"{record.rounds[0]} to {record.rounds[-1]}, and has labelled {docs:,}, in "
        f"{record.seconds:.0f} s. Its guesses have a rank correlation of {known} with the rewards "
        f"of {record.held_out} others."
    )

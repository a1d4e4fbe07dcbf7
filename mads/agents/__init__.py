"""Agents: each turns a document into one category.

A back-end is one file (or folder) here and one entry of ``BACKENDS``. ``fasttext`` reads the text
with a small classifier (quality, domain and topic are shipped in ``models/``); ``column`` reads a
label that the corpus already carries, ``table`` one from files beside it; ``cluster`` takes the
nearest of K centroids; ``target`` bins the likeness to the reference tasks (`mads fit` makes the
models of these two); ``perplexity`` bins a language model's loss; ``python`` asks a class of the
user's; ``transformer`` is any sequence classifier. What is slow to import is imported when an agent
is opened, or when it sees its first document.
"""

from __future__ import annotations

from mads.agents import (
    cluster,
    column,
    fasttext_agent,
    perplexity,
    python,
    target,
    transformer,
)
from mads.agents.agent import Backend, QuantileBins
from mads.agents.table import agent as table
from mads.config import AgentConfig
from mads.types import Agent

BACKENDS: dict[str, Backend] = {
    "fasttext": fasttext_agent.BACKEND,
    "column": column.BACKEND,
    "table": table.BACKEND,
    "python": python.BACKEND,
    "transformer": transformer.BACKEND,
    "perplexity": perplexity.BACKEND,
    "cluster": cluster.BACKEND,
    "target": target.BACKEND,
}

BACKEND_SECTIONS = {name: backend.section for name, backend in BACKENDS.items()}


def open_agent(name: str, config: AgentConfig) -> Agent | QuantileBins:
    """Open the agent ``name`` with the back-end that its recipe section names.

    Raises UsageError for a section that describes no agent, and DataError for a model file that
    cannot be trusted.
    """
    return BACKENDS[config.backend].open(name, config)

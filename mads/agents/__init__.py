"""Agents: each turns a document into one category.

A back-end is one file here and one entry of ``BACKENDS``. ``fasttext`` reads the text with a
small classifier (quality, domain and topic are shipped in ``models/``); ``column`` reads a label
that the corpus already carries. A back-end is imported only when an agent of its kind is opened.
"""

from __future__ import annotations

from collections.abc import Callable

from mads.config import AgentConfig
from mads.errors import UsageError, did_you_mean
from mads.types import Agent


def _fasttext(name: str, config: AgentConfig) -> Agent:
    from mads.agents.fasttext_agent import FastTextAgent

    return FastTextAgent(name, config)


def _column(name: str, config: AgentConfig) -> Agent:
    from mads.agents.column import ColumnAgent

    return ColumnAgent(name, config)


BACKENDS: dict[str, Callable[[str, AgentConfig], Agent]] = {
    "fasttext": _fasttext,
    "column": _column,
}


def open_agent(name: str, config: AgentConfig) -> Agent:
    """Open the agent ``name`` with the back-end that its recipe section names.

    Raises UsageError for a section that describes no agent, and DataError for a model file that
    cannot be trusted.
    """
    if config.backend not in BACKENDS:
        raise UsageError(
            f"agents.{name}.backend: {config.backend!r} is not known; "
            f"{did_you_mean(config.backend, BACKENDS)}"
        )
    return BACKENDS[config.backend](name, config)

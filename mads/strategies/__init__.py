"""Strategies: what turns evidence into scores. The agent console is one of them."""

from __future__ import annotations

STRATEGIES: dict[str, object] = {"console": None, "random": None, "fixed": None}

"""Policies: what turns scores into a selection."""

from __future__ import annotations

POLICIES: dict[str, object] = {"sample": None, "top": None, "random": None}

"""Executors: who runs a job's spans of shards."""

from __future__ import annotations

EXECUTORS: dict[str, object] = {"inline": None, "processes": None}

"""Showing a run in somebody else's tracker: metrics.jsonl replayed, also while it grows.

The loop that trains knows no tracker, so none of them can make a run fail or wait.
"""

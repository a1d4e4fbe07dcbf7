"""A watcher that shows nothing."""

from __future__ import annotations

from typing import Any


class Silent:
    def step(self, record: Any) -> None: ...
    def round(self, record: Any) -> None: ...
    def note(self, text: str) -> None: ...

"""What a run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mads.run.records import EndRecord, RoundRecord, StepRecord


class Watcher(Protocol):
    """What the user sees while a run goes on."""

    def step(self, record: StepRecord) -> None:
        """One optimizer step is done."""

    def round(self, record: RoundRecord | EndRecord) -> None:
        """A round has begun, or the run has ended."""

    def note(self, text: str) -> None:
        """Something that the user should read."""


class Silent:
    """Shows nothing: what the processes beside the main one have."""

    def step(self, record: StepRecord) -> None:
        """Show nothing."""

    def round(self, record: RoundRecord | EndRecord) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""


class Notes(Silent):
    """Passes notes on and shows nothing else."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def note(self, text: str) -> None:
        """Tell it."""
        self._tell(text)

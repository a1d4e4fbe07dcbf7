"""The batch of the next step, prepared in a thread while the present step is taken."""

from __future__ import annotations

from dataclasses import replace
from threading import Thread

from mads.training.data import RoundData
from mads.training.model import TokenBatch


class Ahead:
    """Gives a round's batches in the order of steps, each prepared during the step before it.

    The last step of a round prepares nothing: what the next round reads is not known yet.
    """

    def __init__(self, pin: bool) -> None:
        """Prepare batches, in pinned RAM where ``pin`` is set: a GPU copies from it by itself."""
        self._pin = pin
        self._next: _Task | None = None

    def batch(self, data: RoundData, step: int) -> TokenBatch:
        """Return the batch of a step; raises what reading it raises."""
        ready, self._next = self._next, None
        if ready is not None and (ready.data is not data or ready.step != step):
            ready.join()
            ready = None
        if ready is None:
            ready = _Task(data, step, self._pin)
            ready.run()
        found = ready.result()
        if step + 1 < data.stop:
            self._next = _Task(data, step + 1, self._pin)
            self._next.start()
        return found


class _Task(Thread):
    def __init__(self, data: RoundData, step: int, pin: bool) -> None:
        super().__init__(name="batches", daemon=True)
        self.data, self.step = data, step
        self._pin = pin
        self._found: TokenBatch | None = None
        self._failure: Exception | None = None

    def run(self) -> None:
        try:
            found = self.data.batch(self.step)
            self._found = _pinned(found) if self._pin else found
        except Exception as error:  # noqa: BLE001 - it is raised where the batch is wanted
            self._failure = error

    def result(self) -> TokenBatch:
        if self.is_alive():
            self.join()
        if self._failure is not None:
            raise self._failure
        assert self._found is not None
        return self._found


def _pinned(batch: TokenBatch) -> TokenBatch:
    positions = batch.positions_BT
    return replace(
        batch,
        tokens_BT=batch.tokens_BT.pin_memory(),
        labels_BT=batch.labels_BT.pin_memory(),
        positions_BT=None if positions is None else positions.pin_memory(),
    )

"""metrics.jsonl: one JSON object per line, in the order in which things happened."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mads.codec import from_json, to_json
from mads.errors import DataError
from mads.files import naming, write_text
from mads.sealed import Seal

REMEDY = (
    "Put the file back, or put the name of a checkpoint from before the damage into "
    "checkpoints/latest and run the same `mads train` again; it writes what follows anew."
)
_END = 1 << 16  # bytes, which hold the last few records
Table = Mapping[str, Mapping[str, float]]
"""Agent -> category -> number."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimizer step; ``select_ms`` is there where a selection begins."""

    kind: ClassVar[str] = "step"
    step: int
    round: int
    loss: float  # nats per token
    learning_rate: float
    tokens: int
    tokens_per_s: float
    grad_norm: float | None = None  # before clipping; None where another trainer takes the steps
    select_ms: float | None = None
    # Of each category of the agent that the strategy asks for: summed loss in nats, labels
    category_losses: Mapping[str, tuple[float, ...]] | None = None


@dataclass(frozen=True, slots=True)
class SkippedRecord:
    """A step whose batch had no finite loss or gradient norm, so that no weight was changed."""

    kind: ClassVar[str] = "skipped"
    step: int
    round: int
    why: str
    tokens: int
    tokens_per_s: float
    select_ms: float | None = None


@dataclass(frozen=True, slots=True)
class FeedbackRecord:
    """What a round's rewards said; those that are not finite are left out."""

    reward_s: float
    probes: int
    probe_tokens: int
    refused: str
    guards: Mapping[str, int]
    agreement: float | None = None  # of two halves of the probed documents
    oracle_error: float | None = None  # None where it is not finite
    rewards: Mapping[str, Mapping[str, tuple[float, ...]]] | None = None  # mean, standard error
    task_rewards: Mapping[str, Table] | None = None  # by reference task


@dataclass(frozen=True, slots=True)
class RefreshRecord:
    """The generation that a run has made with a round, for an influence model fitted anew."""

    seconds: float
    rounds: tuple[int, ...]  # whose rewards it has learned from
    documents: int  # it was fitted to
    held_out: int  # it was judged by
    spearman: float | None  # of its guesses with these; None where it has no value
    cells: int


@dataclass(frozen=True, slots=True)
class Effort:
    """What a round's beginning (or a run's end) has cost, and a token of training until the next.

    Operations are floating-point ones; ``gpus`` are the processes that have one.
    """

    eval_s: float  # the losses of tasks
    eval_flops: float
    reward_flops: float
    token_flops: float
    gpus: int


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """The beginning of a round; ``theta`` and ``weights`` are empty under a strategy without."""

    kind: ClassVar[str] = "round"
    round: int
    step: int
    select_ms: float
    num_docs: int
    theta: Mapping[str, float]
    weights: Table
    losses: Mapping[str, float]
    feedback: FeedbackRecord | None = None  # its keys stand among the others in the file
    alarms: Mapping[str, int] | None = None  # swing, collapse: of how many agents
    refresh: RefreshRecord | None = None
    effort: Effort | None = None


@dataclass(frozen=True, slots=True)
class EndRecord:
    """The end of a run."""

    kind: ClassVar[str] = "end"
    step: int
    losses: Mapping[str, float]
    effort: Effort | None = None


Record = StepRecord | SkippedRecord | RoundRecord | EndRecord


def guards_of(records: Iterable[Record]) -> dict[str, int]:
    """Return how often guard rails and alarms acted, in all rounds, and how many steps skipped."""
    total = Counter[str]()
    for record in records:
        total["skipped"] += isinstance(record, SkippedRecord)
        if isinstance(record, RoundRecord):
            total.update(record.feedback.guards if record.feedback else {})
            total.update(record.alarms or {})
    return dict(+total)


_KINDS: dict[str, type[Record]] = {
    c.kind: c for c in (StepRecord, SkippedRecord, RoundRecord, EndRecord)
}
_FEEDBACK = {field.name for field in dataclasses.fields(FeedbackRecord)}


def record_to_json(record: Record) -> dict[str, Any]:
    """Return a record as JSON values; what is None is left out."""
    values: dict[str, Any] = {"kind": record.kind, **to_json(record)}
    values |= values.pop("feedback", None) or {}
    return {key: value for key, value in values.items() if value is not None}


def record_from_json(value: object, place: Path) -> Record:
    """Return a record from JSON values; raises DataError that names the place."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(kind, str) or kind not in _KINDS:
        raise DataError(f"{place} is no record of a run: its kind is {kind!r}. {REMEDY}")
    rest = {key: item for key, item in value.items() if key != "kind"}
    if kind == RoundRecord.kind and "reward_s" in rest:
        feedback = {key: rest.pop(key) for key in _FEEDBACK & rest.keys()}
        rest["feedback"] = feedback
    found: Record = from_json(_KINDS[kind], rest, place, "a record of a run", REMEDY)
    return found


class Metrics:
    """The file metrics.jsonl of a run."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, record: Record) -> None:
        """Append a record."""
        line = json.dumps(record_to_json(record), allow_nan=False)
        with naming(self._path), self._path.open("a", encoding="utf-8") as handle:
            handle.write(line + "\n")

    def read(self) -> list[Record]:
        """Return all records; half a last line, as a killed process leaves it, is left out.

        Raises DataError, with the file and the line, for a damaged one.
        """
        return self.since(0)[0]

    def since(self, size: int) -> tuple[list[Record], int]:
        """Return the records after the first ``size`` bytes, and the size of all whole lines.

        Lines in an error's place are counted from there. Raises as ``read`` does.
        """
        if not self._path.is_file():
            return [], 0
        with self._path.open("rb") as handle:
            handle.seek(size)
            *lines, _ = handle.read().split(b"\n")  # after the last "\n": half a line
        records = []
        after = f" after byte {size}" if size else ""
        for number, line in enumerate(lines, start=1):
            place = Path(f"{self._path}:{number}{after}")
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{place} is not JSON: {error}. {REMEDY}") from error
            records.append(record_from_json(value, place))
        return records, size + sum(len(line) + 1 for line in lines)

    def _tail(self, size: int) -> tuple[list[bytes], bool]:
        """Return the whole lines among the last bytes, and whether they are all of the file's."""
        with self._path.open("rb") as handle:
            start = max(handle.seek(0, os.SEEK_END) - size, 0)
            handle.seek(start)
            *lines, _ = handle.read().split(b"\n")
        return lines[start > 0 :], start == 0  # the first one is cut

    def steps_of(self, number: int) -> list[StepRecord]:
        """Return the steps of round ``number``, the newest one, in order.

        The file alone says what a round's evidence is, so a run that goes on from the middle of a
        round has the same. Raises DataError for a damaged line.
        """
        found: list[StepRecord] = []
        for record in self._backwards():
            if isinstance(record, StepRecord) and record.round == number:
                found.append(record)
            elif not isinstance(record, SkippedRecord) or record.round != number:
                break
        return found[::-1]

    def skipped_in_a_row(self) -> int:
        """Return how many steps were skipped since the last one that was taken.

        Raises DataError for a damaged line.
        """
        count = 0
        for record in self._backwards():
            if isinstance(record, StepRecord):
                break
            count += isinstance(record, SkippedRecord)
        return count

    def _backwards(self) -> Iterator[Record]:
        """Yield the records from the last one on; raises DataError for a damaged line."""
        if not self._path.is_file():
            return
        size, seen, whole = _END, 0, False
        while not whole:
            lines, whole = self._tail(size)
            for line in lines[: len(lines) - seen][::-1]:
                try:
                    record = record_from_json(json.loads(line), self._path)
                except (ValueError, RecursionError, DataError):
                    self.read()  # it names the line
                    raise
                yield record
            seen = max(seen, len(lines))
            size *= 2

    def steps_done(self) -> int:
        """Return how many steps the end of the file tells of; 0 where it tells of none.

        It is for showing progress: what cannot be read is passed over.
        """
        if not self._path.is_file():
            return 0
        for line in reversed(self._tail(_END)[0]):
            try:
                record = record_from_json(json.loads(line), self._path)
            except (ValueError, RecursionError, DataError):
                continue
            return record.step + isinstance(record, StepRecord | SkippedRecord)
        return 0

    def sha256(self, size: int) -> str:
        """Return the sha256 of the file's first bytes."""
        if not self._path.is_file():
            return hashlib.sha256().hexdigest()
        with self._path.open("rb") as handle:
            return hashlib.sha256(handle.read(size)).hexdigest()

    def check(self, expected: Seal) -> None:
        """Raise DataError unless the file begins with what was written until a checkpoint."""
        found = self.sha256(expected.size)
        if found != expected.sha256:
            raise DataError(
                f"{self._path} was changed: the sha256 of its first {expected.size:,} bytes is "
                f"{found[:16]}, expected {expected.sha256[:16]}. {REMEDY}"
            )

    def cut(self, size: int) -> None:
        """Forget what happened after the checkpoint that a run goes on from."""
        if self._path.is_file() and self._path.stat().st_size > size:
            with self._path.open("rb") as handle:
                kept = handle.read(size)
            write_text(self._path, kept.decode())

    def cut_after(self, step: int) -> None:
        """Keep what was written of the steps before ``step``, and of rounds that began before."""
        lines = [
            json.dumps(record_to_json(record), allow_nan=False) + "\n"
            for record in self.read()
            if record.step < step
        ]
        if self._path.is_file():
            write_text(self._path, "".join(lines))

    def sync(self) -> None:
        """Make what was written so far survive a power cut."""
        with self._path.open("rb") as handle:
            os.fsync(handle.fileno())

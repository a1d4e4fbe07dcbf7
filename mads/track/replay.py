"""From the lines of metrics.jsonl to a tracker's points, each of them once.

metrics.jsonl -> records after what was sent -> points (step, name -> number) -> tracker
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mads.codec import Count, from_json, to_json
from mads.errors import DataError, MadsError, UsageError, did_you_mean
from mads.files import file_sha256, read_sealed_json, write_sealed_json
from mads.recipe import to_table
from mads.run.reader import Run, RunRound
from mads.run.records import EndRecord, Metrics, Record, RoundRecord, SkippedRecord
from mads.track.trackers import TRACKERS, Replayed, Tracker

REMEDY = "Delete it; then everything is sent once more."
POLL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What a tracker has got of a run: all lines in the first ``size`` bytes, up to ``step``.

    ``begins`` is the sha256 of these bytes. ``rank`` tells the beginning of a round (0), a step (1)
    and the end (2) apart.
    """

    key: str
    size: Count = 0
    begins: str = hashlib.sha256().hexdigest()
    step: int = -1
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Tracked:
    """What a call has sent."""

    run: str
    to: str
    records: int
    step: int  # the last one that the tracker knows of


def track(root: Path, to: str, project: str, *, follow: bool, note: Any = None) -> Tracked:
    """Send what a run has measured, and was not sent before, to a tracker.

    With ``follow`` it goes on until the run has ended. Raises UsageError for an unknown tracker, or
    one that is not installed, DataError where the tracker fails: the run is untouched by that.
    """
    if to not in TRACKERS:
        raise UsageError(f"--to {to!r} is not known; {did_you_mean(to, TRACKERS)}")
    run = Run(root)
    path = root / f"tracked-{to}.json"
    sent = _read_sent(path, run)
    told = note or (lambda _: None)
    name = root.resolve().name
    try:
        tracker = TRACKERS[to](Replayed(name, sent.key, project, root, to_table(run.recipe)))
    except MadsError:
        raise
    except Exception as error:
        raise _failed(to, sent, error) from error
    total = 0
    try:
        while True:
            count, sent, ended = _send(run, tracker, to, sent, told)
            total += count
            if count:
                write_sealed_json(path, to_json(sent))
            if ended or not follow:
                break
            time.sleep(POLL_SECONDS)
    finally:
        try:
            tracker.close()
        except Exception as error:
            raise _failed(to, sent, error) from error
    return Tracked(str(root), to, total, sent.step)


def _read_sent(path: Path, run: Run) -> Sent:
    """Return what a tracker has got; a run's key is made once, from its provenance."""
    if not path.is_file():
        return Sent(file_sha256(run.dir.provenance)[:16])
    value = read_sealed_json(path, REMEDY)
    return from_json(Sent, value, path, "a note of what was tracked", REMEDY)


def _send(run: Run, tracker: Tracker, to: str, sent: Sent, note: Any) -> tuple[int, Sent, bool]:
    """Log the records that are new; return how many, what is sent now, and if the run has ended."""
    metrics = Metrics(run.dir.metrics)
    if metrics.sha256(sent.size) != sent.begins:
        note(
            f"the run went back to an older checkpoint since; what was sent of steps up to "
            f"{sent.step} stays in the tracker as it is."
        )
        sent = replace(sent, size=0, begins=Sent(sent.key).begins)
    records, size = metrics.since(sent.size)
    count, ended = 0, False
    for record in records:
        place = record.step, rank_of(record)
        ended = isinstance(record, EndRecord)
        if place <= (sent.step, sent.rank):
            continue
        try:
            tracker.log(record.step, points(record, _read(run, record)))
        except MadsError:
            raise
        except Exception as error:
            raise _failed(to, sent, error) from error
        sent = replace(sent, step=place[0], rank=place[1])
        count += 1
    ended = ended or (not records and run.dir.result.is_file())
    return count, replace(sent, size=size, begins=metrics.sha256(size)), ended


def _failed(to: str, sent: Sent, error: Exception) -> DataError:
    return DataError(
        f"the tracker {to} failed after step {sent.step}: {type(error).__name__}: {error}. The run "
        "is not concerned. Run the same command again; it sends what is missing."
    )


def rank_of(record: Record) -> int:
    """Return where a record stands among those of its step."""
    return 0 if isinstance(record, RoundRecord) else 2 if isinstance(record, EndRecord) else 1


def points(record: Record, read: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return a record's numbers by the names that trackers show.

    ``read``: how the round's selection is shared by categories, in tokens.
    """
    if isinstance(record, SkippedRecord):
        return {"train/skipped": 1.0}
    if isinstance(record, EndRecord):
        return {f"loss/{task}": loss for task, loss in record.losses.items()}
    if not isinstance(record, RoundRecord):
        names = ("loss", "grad_norm", "learning_rate", "tokens_per_s")
        values = {name: getattr(record, name) for name in names}
        return {f"train/{name}": float(v) for name, v in values.items() if v is not None}
    found = {"round": float(record.round), "round/documents": float(record.num_docs)}
    found |= {f"loss/{task}": loss for task, loss in record.losses.items()}
    found |= {f"theta/{agent}": value for agent, value in record.theta.items()}
    for kind, tables in (("w", record.weights), ("read", read)):
        for agent, table in tables.items():
            found |= {f"{kind}/{agent}/{name}": value for name, value in table.items()}
    acted = {**(record.feedback.guards if record.feedback else {}), **(record.alarms or {})}
    found |= {f"guards/{name}": float(count) for name, count in acted.items()}
    if record.feedback is not None:
        found["rewards/seconds"] = record.feedback.reward_s
        found["rewards/probes"] = float(record.feedback.probes)
    return found


def _read(run: Run, record: Record) -> dict[str, dict[str, float]]:
    """Return how a round's selection is shared by categories; {} while its folder is made anew."""
    if not isinstance(record, RoundRecord):
        return {}
    one = RunRound(run.dir.round(record.round), record.round, run.recipe)
    return composition_of(one.selection()) if one.dir.plan.is_file() else {}


def composition_of(table: pa.Table) -> dict[str, dict[str, float]]:
    """Return the shares of a selection's tokens by category, from its category columns."""
    total = max(pc.sum(table["num_tokens"]).as_py() or 0, 1)
    found = {}
    for field in table.schema:
        if pa.types.is_dictionary(field.type):
            sums = table.group_by(field.name).aggregate([("num_tokens", "sum")])
            names = (str(name) for name in sums[field.name].to_pylist())
            shares = (tokens / total for tokens in sums["num_tokens_sum"].to_pylist())
            found[field.name] = dict(sorted(zip(names, shares, strict=True)))
    return found

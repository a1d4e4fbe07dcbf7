"""The trackers that a run can be replayed to. Each is one class and one line of TRACKERS."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mads.errors import UsageError

_FOREIGN = re.compile(r"[^\w./ -]")


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a tracker is told of a run; ``key`` is the same in every call."""

    name: str
    key: str
    project: str
    root: Path
    recipe: Mapping[str, Any]


class Tracker(Protocol):
    """Takes numbers by name; ``step`` never falls within a call."""

    def __init__(self, run: Replayed) -> None:
        """Open the run in the tracker, the same one as in earlier calls where it can be found.

        Raises UsageError where the tracker's package is not installed.
        """

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log what is known of an optimizer step."""

    def close(self) -> None:
        """Send what is not sent yet."""


def _load(module: str, package: str) -> Any:
    """Return a tracker's module; raises UsageError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--to {package}: the package {error.name!r} is not installed. Run "
            f'`pip install "mads[{package}]"`, or `pip install {package}`.'
        ) from error


class TensorBoard:
    """Event files below the run's folder: `tensorboard --logdir RUN` shows them."""

    def __init__(self, run: Replayed) -> None:
        files = _load("tensorboard.summary.writer.event_file_writer", "tensorboard")
        self._event = _load("tensorboard.compat.proto.event_pb2", "tensorboard").Event
        self._summary = _load("tensorboard.compat.proto.summary_pb2", "tensorboard").Summary
        self._writer = files.EventFileWriter(str(run.root / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write an event with all values."""
        found = [self._summary.Value(tag=name, simple_value=v) for name, v in values.items()]
        event = self._event(step=step, summary=self._summary(value=found), wall_time=time.time())
        self._writer.add_event(event)

    def close(self) -> None:
        """Write what is waiting."""
        self._writer.flush()
        self._writer.close()


class WandB:
    """A run of Weights & Biases, resumed by its id; WANDB_MODE=offline needs no account."""

    def __init__(self, run: Replayed) -> None:
        self._run = _load("wandb", "wandb").init(
            project=run.project,
            name=run.name,
            id=run.key,
            resume="allow",
            config=dict(run.recipe),
            dir=str(run.root),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values; those of one step are joined."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Wait until all is sent."""
        self._run.finish()


class MLflow:
    """A run of MLflow, found again by a tag; MLFLOW_TRACKING_URI says where."""

    TAG = "mads.run"

    def __init__(self, run: Replayed) -> None:
        mlflow = _load("mlflow", "mlflow")
        self._metric = _load("mlflow.entities", "mlflow").Metric
        self._client = mlflow.MlflowClient()
        experiment = mlflow.set_experiment(run.project).experiment_id
        found = self._client.search_runs([experiment], f"tags.`{self.TAG}` = '{run.key}'")
        if found:
            self._id = found[0].info.run_id
            return
        made = self._client.create_run(experiment, tags={self.TAG: run.key}, run_name=run.name)
        self._id = made.info.run_id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values; characters that MLflow does not take in a name become ``_``."""
        now = int(1000 * time.time())
        named = ((_FOREIGN.sub("_", name), value) for name, value in values.items())
        metrics = [self._metric(name, value, now, step) for name, value in named]
        for start in range(0, len(metrics), 1000):  # as many as it takes at a time
            self._client.log_batch(self._id, metrics=metrics[start : start + 1000])

    def close(self) -> None:
        """Say that nobody logs any more."""
        self._client.set_terminated(self._id)


class Trackio:
    """A run of Trackio, on this machine."""

    def __init__(self, run: Replayed) -> None:
        self._module = _load("trackio", "trackio")
        name = f"{run.name}-{run.key[:8]}"  # it knows runs by their names
        self._module.init(
            project=run.project, name=name, resume="allow", config=dict(run.recipe), embed=False
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values."""
        self._module.log(dict(values), step=step)

    def close(self) -> None:
        """Write what is waiting."""
        self._module.finish()


TRACKERS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}

"""Stand-ins for trackers' packages, as far as they are called, that remember what they get."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

Points = dict[int, dict[str, float]]
"""Step -> name -> number."""


@dataclass
class Shelf:
    """What a tracker holds over all calls: runs by their key, and how often each was opened."""

    runs: dict[str, Points] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    closed: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    project: str = ""
    failing: bool = False

    def open(self, key: str) -> Points:
        self.opened.append(key)
        return self.runs.setdefault(key, {})

    def put(self, points: Points, step: int, values: dict[str, float]) -> None:
        if self.failing:
            raise ConnectionError("no route to host")
        assert not points.get(step, {}).keys() & values.keys(), "logged twice"
        points.setdefault(step, {}).update(values)

    def close(self) -> None:
        self.closed += 1


def install(monkeypatch: pytest.MonkeyPatch, modules: dict[str, Any]) -> None:
    for name, content in modules.items():
        module = ModuleType(name)
        for key, value in content.items():
            setattr(module, key, value)
        monkeypatch.setitem(sys.modules, name, module)


def tensorboard(shelf: Shelf) -> dict[str, Any]:
    class EventFileWriter:
        def __init__(self, logdir: str) -> None:
            self.points = shelf.open(logdir)

        def add_event(self, event: Any) -> None:
            values = {value.tag: value.simple_value for value in event.summary.value}
            shelf.put(self.points, event.step, values)

        def flush(self) -> None:
            pass

        def close(self) -> None:
            shelf.close()

    def make(**values: Any) -> SimpleNamespace:
        return SimpleNamespace(**values)

    make.Value = make  # type: ignore[attr-defined]
    return {
        "tensorboard": {},
        "tensorboard.summary.writer.event_file_writer": {"EventFileWriter": EventFileWriter},
        "tensorboard.compat.proto.event_pb2": {"Event": make},
        "tensorboard.compat.proto.summary_pb2": {"Summary": make},
    }


def wandb(shelf: Shelf) -> dict[str, Any]:
    def init(**values: Any) -> SimpleNamespace:
        assert values.keys() == {"project", "name", "id", "resume", "config", "dir"}
        assert values["resume"] == "allow"
        shelf.config, shelf.project = values["config"], values["project"]
        points = shelf.open(values["id"])
        return SimpleNamespace(
            log=lambda values, step: shelf.put(points, step, values), finish=shelf.close
        )

    return {"wandb": {"init": init}}


def mlflow(shelf: Shelf) -> dict[str, Any]:
    tags: dict[str, str] = {}

    class Client:
        def search_runs(self, experiments: list[str], query: str) -> list[Any]:
            assert experiments == ["7"]
            found = [run for key, run in tags.items() if query == f"tags.`mads.run` = '{key}'"]
            return [SimpleNamespace(info=SimpleNamespace(run_id=run)) for run in found]

        def create_run(self, experiment: str, tags: dict[str, str], run_name: str) -> Any:
            own.update({tags["mads.run"]: tags["mads.run"]})
            return SimpleNamespace(info=SimpleNamespace(run_id=tags["mads.run"]))

        def log_batch(self, run_id: str, metrics: list[Any]) -> None:
            assert len(metrics) <= 1000
            points = shelf.runs.setdefault(run_id, {})
            shelf.put(points, metrics[0].step, {one.key: one.value for one in metrics})

        def set_terminated(self, run_id: str) -> None:
            shelf.open(run_id)
            shelf.close()

    def set_experiment(name: str) -> SimpleNamespace:
        shelf.project = name
        return SimpleNamespace(experiment_id="7")

    def metric(key: str, value: float, timestamp: int, step: int) -> SimpleNamespace:
        return SimpleNamespace(key=key, value=value, step=step)

    own = tags
    return {
        "mlflow": {"MlflowClient": Client, "set_experiment": set_experiment},
        "mlflow.entities": {"Metric": metric},
    }


def trackio(shelf: Shelf) -> dict[str, Any]:
    current: list[Points] = []

    def init(project: str, name: str, resume: str, config: dict[str, Any], embed: bool) -> None:
        assert resume == "allow"
        shelf.config, shelf.project = config, project
        current.append(shelf.open(name))

    def log(values: dict[str, float], step: int) -> None:
        shelf.put(current[-1], step, values)

    return {"trackio": {"init": init, "log": log, "finish": shelf.close}}


FAKES = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow, "trackio": trackio}

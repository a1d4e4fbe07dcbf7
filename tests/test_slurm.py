"""The batch scripts, with stand-ins for Slurm's commands: what is started, what signals do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from annotate.test_annotate import SHARDS, content, run
from toys import MakeRecipe

from mads.recipe import to_table, to_toml

SCRIPTS = Path(__file__).parent.parent / "scripts" / "slurm"
Command = Callable[[str, str], None]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that puts a command's stand-in before the real ones."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def make(name: str, body: str) -> None:
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    make("srun", 'exec "$@"')
    make("scontrol", f'echo "$@" >> {tmp_path / "scontrol"}; [ "$1" != show ] || echo node1')
    return make


def test_an_array_makes_the_store_of_one_process(
    command: Command,
    toy_corpus: Path,
    toy_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = toy_recipe(corpus={"workers": 1, "executor": "inline", **SHARDS})
    run([toy_corpus], tmp_path / "whole", recipe)
    command("mads", f'exec {sys.executable} -m mads "$@"')
    (tmp_path / "recipe.toml").write_text(to_toml(to_table(recipe)))
    names = {"CORPUS": toy_corpus, "STORE": tmp_path / "s", "RECIPE": tmp_path / "recipe.toml"}
    for name, value in names.items():
        monkeypatch.setenv(name, str(value))

    def task(stage: str, number: int, count: int) -> None:
        values = {"ID": number, "MIN": 1, "MAX": count, "COUNT": count}
        array = {f"SLURM_ARRAY_TASK_{key}": str(value) for key, value in values.items()}
        script = ["bash", str(SCRIPTS / "annotate.sbatch")]
        subprocess.run(script, env={**os.environ, **array, "STAGE": stage}, check=True)

    task("plan", 1, 1)
    for number in (2, 1):
        task("part", number, 2)
    task("finish", 1, 1)
    assert content(tmp_path / "s") == content(tmp_path / "whole")


@pytest.mark.parametrize(("code", "again"), [(75, "requeue 7_3\n"), (1, ""), (0, "")])
def test_a_task_that_a_signal_stopped_is_put_back(
    command: Command, tmp_path: Path, code: int, again: str
) -> None:
    command("mads", f"exit {code}")
    given = {"CORPUS": "c", "STORE": "s", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    script = ["bash", str(SCRIPTS / "annotate.sbatch")]
    assert subprocess.run(script, env={**os.environ, **given}).returncode == code
    told = tmp_path / "scontrol"
    assert (told.read_text() if told.exists() else "") == again


@pytest.mark.parametrize("is_stopped", [False, True])
def test_training_starts_torchrun_on_every_machine(
    command: Command, tmp_path: Path, is_stopped: bool
) -> None:
    end = "trap 'exit 1' TERM; while true; do sleep 0.05; done" if is_stopped else "exit 0"
    command(
        "torchrun", f'echo "$@" > {tmp_path / "new"}; mv {tmp_path}/new {tmp_path}/asked; {end}'
    )
    given = {"STORE": "s", "RUN": str(tmp_path / "run"), "RECIPE": "r.toml"}
    given |= {"SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "8", "SLURM_JOB_ID": "7"}
    given["SLURM_JOB_NODELIST"] = "node[1-2]"
    script = ["bash", str(SCRIPTS / "train.sbatch")]
    with subprocess.Popen(script, env={**os.environ, **given}) as process:
        while not (tmp_path / "asked").exists():
            time.sleep(0.01)
        if is_stopped:
            process.send_signal(signal.SIGTERM)
    assert (tmp_path / "asked").read_text() == (
        "--nnodes 2 --nproc-per-node 8 --rdzv-id 7 --rdzv-backend c10d --rdzv-endpoint node1:29500 "
        f"-m mads train --store s --out {tmp_path / 'run'} --recipe r.toml\n"
    )
    told = (tmp_path / "scontrol").read_text()
    assert told == "show hostnames node[1-2]\n" + ("requeue 7\n" if is_stopped else "")
    assert process.returncode == (1 if is_stopped else 0)

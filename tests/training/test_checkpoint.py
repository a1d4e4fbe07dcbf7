"""Checkpoints: whole or not there, exact, and readable by others."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from training.test_trainer import TINY, batch
from transformers import GPT2Config, MixtralConfig
from transformers.configuration_utils import PretrainedConfig

from mads.config import ModelConfig, TrainingConfig
from mads.corpus.tokenizer import train_tokenizer
from mads.errors import DataError
from mads.files import write_sealed_json
from mads.layout import RunDir
from mads.training import checkpoint
from mads.training.build import build_model
from mads.training.checkpoint import (
    STATE,
    Checkpoint,
    Saver,
    latest_checkpoint,
    load_checkpoint,
    remove_newer,
)
from mads.training.trainer import Trainer


def save_checkpoint(
    run: RunDir, step: int, trainer: Trainer, tokenizer: Path, number: int, keep: int
) -> None:
    saver = Saver(run, trainer, tokenizer, keep)
    saver.save(step, number)
    saver.wait()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "t"
    train_tokenizer(["some words to learn from"], 300, folder)
    return folder


def make_trainer(model: ModelConfig = TINY, seed: int = 0) -> Trainer:
    config = TrainingConfig(warmup=0)
    return Trainer(build_model(model, config, 100, seed), config, seed=0)


def load(run: RunDir, trainer: Trainer) -> Checkpoint:
    """Load the latest checkpoint, as a run does."""
    found = latest_checkpoint(run)
    assert found is not None
    load_checkpoint(run, found, trainer)
    return found


@pytest.mark.parametrize("tied", [False, True])
def test_training_goes_on_exactly(tmp_path: Path, tokenizer: Path, tied: bool) -> None:
    model = ModelConfig(hidden_size=16, num_layers=1, num_heads=2, ffn_size=32, tie_embeddings=tied)
    run, one = RunDir(tmp_path), make_trainer(model)
    for step in range(3):
        one.step(step, batch())
    save_checkpoint(run, 3, one, tokenizer, 1, keep=2)
    expected = [one.step(step, batch()).loss for step in range(3, 6)]
    two = make_trainer(model, seed=9)
    saved = load(run, two)
    assert (saved.step, saved.round) == (3, 1)
    assert [two.step(step, batch()).loss for step in range(3, 6)] == expected


def test_files_can_be_read_by_whom_the_user_lets(tmp_path: Path, tokenizer: Path) -> None:
    run, trainer = RunDir(tmp_path / "run"), make_trainer()
    before = os.umask(0o027)
    try:
        save_checkpoint(run, 1, trainer, tokenizer, 0, keep=1)
    finally:
        os.umask(before)
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (run.checkpoint(1) / name).stat().st_mode & 0o777 == 0o640


def test_only_the_newest_are_kept(tmp_path: Path, tokenizer: Path) -> None:
    run, trainer = RunDir(tmp_path), make_trainer()
    for step in (1, 2, 3):
        save_checkpoint(run, step, trainer, tokenizer, 0, keep=2)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["latest", "step-00000002", "step-00000003"]
    assert run.latest.read_text() == "step-00000003\n"


def test_the_new_checkpoint_is_never_pruned(tmp_path: Path, tokenizer: Path) -> None:
    """The user went back to an older checkpoint: newer ones are given up, not kept instead."""
    run, trainer = RunDir(tmp_path), make_trainer()
    for step in (1, 2, 3):
        save_checkpoint(run, step, trainer, tokenizer, 0, keep=3)
    half = run.checkpoint(4).with_name("step-00000004.partial")
    half.mkdir()
    run.latest.write_text("step-00000001\n")
    assert load(run, trainer).step == 1
    remove_newer(run, 1)
    save_checkpoint(run, 2, trainer, tokenizer, 0, keep=1)
    assert load(run, trainer).step == 2
    assert sorted(p.name for p in half.parent.iterdir()) == ["latest", "step-00000002"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SafetensorError("No space left on device"), "No space left on device.*make room"),
        (PermissionError(errno.EACCES, "Permission denied"), "There is no permission for it"),
        (OSError("x"), "x. Correct that and run the same command again"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path,
    tokenizer: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    message: str,
) -> None:
    run, trainer = RunDir(tmp_path), make_trainer()
    save_checkpoint(run, 1, trainer, tokenizer, 0, keep=1)

    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(checkpoint, "save_file", failing)
    words = rf"step-00000002 cannot be written: .*{message}.*The run goes on from the checkpoint"
    with pytest.raises(DataError, match=words) as caught:
        save_checkpoint(run, 2, trainer, tokenizer, 0, keep=1)
    assert ("room" in str(caught.value)) == ("space" in str(error))
    assert load(run, trainer).step == 1
    assert not list((tmp_path / "checkpoints").glob("*.partial"))


@pytest.mark.parametrize("name", ["mixtral", "gpt2"])
def test_other_models_go_on_exactly(tmp_path: Path, tokenizer: Path, name: str) -> None:
    """Mixtral's parameters are renamed when saved; GPT-2 ties its weights and has dropout."""
    small: dict[str, Any] = {"vocab_size": 128, "hidden_size": 16, "num_attention_heads": 2}
    if name == "mixtral":
        small |= {"num_hidden_layers": 1, "intermediate_size": 16, "num_key_value_heads": 2}
        shape: PretrainedConfig = MixtralConfig(num_local_experts=2, **small)
    else:
        shape = GPT2Config(vocab_size=128, n_embd=16, n_layer=1, n_head=2, n_positions=64)
    shape.save_pretrained(str(tmp_path / "hf"))
    config = TrainingConfig(warmup=0, context=32)
    run = RunDir(tmp_path / "run")

    def make(seed: int) -> Trainer:
        lm = build_model(ModelConfig(hf=str(tmp_path / "hf")), config, 100, seed)
        return Trainer(lm, config, seed=0)

    one, two = make(0), make(9)
    for step in range(2):
        one.step(step, batch())
    save_checkpoint(run, 2, one, tokenizer, 0, keep=1)
    expected = [one.step(step, batch()).loss for step in range(2, 4)]
    assert load(run, two).step == 2
    assert [two.step(step, batch()).loss for step in range(2, 4)] == expected


def test_nothing_to_load(tmp_path: Path) -> None:
    assert latest_checkpoint(RunDir(tmp_path)) is None


def test_the_folder_opens_in_transformers(tmp_path: Path, tokenizer: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run, trainer = RunDir(tmp_path), make_trainer()
    save_checkpoint(run, 1, trainer, tokenizer, 0, keep=0)
    folder = str(run.checkpoint(1))
    model = AutoModelForCausalLM.from_pretrained(folder)
    for name, value in model.named_parameters():
        assert torch.equal(value, trainer.lm.parameters[name])
    words = AutoTokenizer.from_pretrained(folder)
    assert words.decode(words.encode("some words")) == "some words"


def test_no_pickle_in_a_checkpoint(tmp_path: Path, tokenizer: Path) -> None:
    run = RunDir(tmp_path)
    save_checkpoint(run, 1, make_trainer(), tokenizer, 0, keep=0)
    assert {p.suffix for p in run.checkpoint(1).iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["shorter", "flipped", "missing"])
def test_a_damaged_file_is_named_with_what_to_do(
    tmp_path: Path, tokenizer: Path, name: str, damage: str
) -> None:
    run = RunDir(tmp_path)
    save_checkpoint(run, 1, make_trainer(), tokenizer, 0, keep=0)
    path = run.checkpoint(1) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flipped" else content[:-100])
    what = "is missing" if damage == "missing" else "was changed: its sha256 is"
    with pytest.raises(DataError, match=rf"step-00000001 is damaged: {name} {what}.*n older one"):
        latest_checkpoint(run)


def test_a_damaged_state_says_what_to_do(tmp_path: Path, tokenizer: Path) -> None:
    run = RunDir(tmp_path)
    save_checkpoint(run, 1, make_trainer(), tokenizer, 0, keep=0)
    path = run.checkpoint(1) / STATE
    text = path.read_text()
    path.write_text(text.replace('"round": 0', '"round": 1'))
    with pytest.raises(DataError, match=r"is damaged: .*state.json was changed.*older one"):
        latest_checkpoint(run)
    value = json.loads(text)
    write_sealed_json(path, {"step": 1, "round": 0})
    with pytest.raises(
        DataError, match=r"is not a checkpoint's state: files: missing\. `mads train`"
    ):
        latest_checkpoint(run)
    del value["sha256"]
    write_sealed_json(path, value | {"step": 2})
    with pytest.raises(DataError, match=r"is of another checkpoint: found step 2, expected 1"):
        latest_checkpoint(run)
    shutil.rmtree(run.checkpoint(1))
    with pytest.raises(DataError, match=r"step-00000001 is damaged: .*does not exist.*older one"):
        latest_checkpoint(run)


@pytest.mark.parametrize("name", ["", "step-1", "../checkpoints/step-00000001", "step-0000000１"])
def test_what_is_named_latest_must_be_a_checkpoint(
    tmp_path: Path, tokenizer: Path, name: str
) -> None:
    run = RunDir(tmp_path)
    save_checkpoint(run, 1, make_trainer(), tokenizer, 0, keep=0)
    run.latest.write_text(name + "\n")
    with pytest.raises(DataError, match=r"names no checkpoint: found .* expected step-00000100"):
        latest_checkpoint(run)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("change", ["extra", "less"])
def test_tensors_that_are_not_the_models_are_refused(
    tmp_path: Path, tokenizer: Path, name: str, change: str
) -> None:
    """Also when every sum is right."""
    run = RunDir(tmp_path)
    trainer = make_trainer()
    trainer.step(0, batch())
    save_checkpoint(run, 1, trainer, tokenizer, 0, keep=0)
    saved = latest_checkpoint(run)
    assert saved is not None
    path = run.checkpoint(1) / name
    tensors = load_file(path)
    if change == "extra":
        tensors["surplus"] = torch.ones(2)
        message = f"is of another model: {name} has 'surplus'"
    else:
        del tensors[max(key for key in tensors if not key.startswith("step."))]
        message = "is damaged: "
    save_file(tensors, path)
    with pytest.raises(DataError, match=message):
        load_checkpoint(run, saved, make_trainer())


def test_a_parameter_that_was_used_before_the_stop_must_have_gradients_after_it(
    tmp_path: Path, tokenizer: Path
) -> None:
    run, one, two = RunDir(tmp_path), make_trainer(), make_trainer()
    one.step(0, batch())
    save_checkpoint(run, 1, one, tokenizer, 0, keep=0)
    load(run, two)
    only = two.lm.parameters["model.norm.weight"].sum()
    with pytest.raises(DataError, match=r"has no gradient, though training uses it"):
        two.lm.gradients(only)


def test_another_model_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    run = RunDir(tmp_path)
    save_checkpoint(run, 1, make_trainer(), tokenizer, 0, keep=0)
    other = ModelConfig(hidden_size=32, num_layers=1, num_heads=2, ffn_size=32)
    with pytest.raises(DataError, match=r"of another model: .* has shape \(128, 16\), expected"):
        load(run, make_trainer(other))

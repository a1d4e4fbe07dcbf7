"""Checkpoints: whole or not there, exact, and readable by others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from training.test_trainer import TINY, batch

from mads.config import ModelConfig, TrainingConfig
from mads.corpus.tokenizer import train_tokenizer
from mads.errors import DataError
from mads.run_dir import RunDir
from mads.training.checkpoint import load_checkpoint, save_checkpoint
from mads.training.model import build_model
from mads.training.trainer import Trainer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "t"
    train_tokenizer(["some words to learn from"], 300, folder)
    return folder


def make_trainer(model: ModelConfig = TINY, seed: int = 0) -> Trainer:
    config = TrainingConfig(warmup=0)
    return Trainer(build_model(model, config, 100, seed), config, seed=0)


@pytest.mark.parametrize("tied", [False, True])
def test_training_goes_on_exactly(tmp_path: Path, tokenizer: Path, tied: bool) -> None:
    model = ModelConfig(hidden_size=16, num_layers=1, num_heads=2, ffn_size=32, tie_embeddings=tied)
    run, one = RunDir(tmp_path), make_trainer(model)
    for step in range(3):
        one.step(step, batch())
    save_checkpoint(run, 3, one, tokenizer, {"round": 1}, keep=2)
    expected = [one.step(step, batch()).loss for step in range(3, 6)]
    two = make_trainer(model, seed=9)
    assert load_checkpoint(run, two) == {"step": 3, "round": 1}
    assert [two.step(step, batch()).loss for step in range(3, 6)] == expected


def test_only_the_newest_are_kept(tmp_path: Path, tokenizer: Path) -> None:
    run, trainer = RunDir(tmp_path), make_trainer()
    for step in (1, 2, 3):
        save_checkpoint(run, step, trainer, tokenizer, {}, keep=2)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["latest", "step-00000002", "step-00000003"]
    assert run.latest.read_text() == "step-00000003\n"


def test_nothing_to_load(tmp_path: Path) -> None:
    assert load_checkpoint(RunDir(tmp_path), make_trainer()) is None


def test_the_folder_opens_in_transformers(tmp_path: Path, tokenizer: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run, trainer = RunDir(tmp_path), make_trainer()
    save_checkpoint(run, 1, trainer, tokenizer, {}, keep=0)
    folder = str(run.checkpoint(1))
    model = AutoModelForCausalLM.from_pretrained(folder)
    for name, value in model.named_parameters():
        assert torch.equal(value, trainer.lm.parameters[name])
    words = AutoTokenizer.from_pretrained(folder)
    assert words.decode(words.encode("some words")) == "some words"


def test_no_pickle_in_a_checkpoint(tmp_path: Path, tokenizer: Path) -> None:
    run = RunDir(tmp_path)
    save_checkpoint(run, 1, make_trainer(), tokenizer, {}, keep=0)
    assert {p.suffix for p in run.checkpoint(1).iterdir()} == {".json", ".safetensors"}


def test_a_damaged_checkpoint_says_what_to_do(tmp_path: Path, tokenizer: Path) -> None:
    run, trainer = RunDir(tmp_path), make_trainer()
    save_checkpoint(run, 1, trainer, tokenizer, {}, keep=0)
    weights = run.checkpoint(1) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"step-00000001 is damaged.*older one"):
        load_checkpoint(run, make_trainer())
    shutil.rmtree(run.checkpoint(1))
    with pytest.raises(DataError, match=r"step-00000001 is damaged.*older one"):
        load_checkpoint(run, make_trainer())


def test_another_model_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    run = RunDir(tmp_path)
    save_checkpoint(run, 1, make_trainer(), tokenizer, {}, keep=0)
    other = ModelConfig(hidden_size=32, num_layers=1, num_heads=2, ffn_size=32)
    with pytest.raises(DataError, match=r"of another model: .* has shape \(128, 16\), expected"):
        load_checkpoint(run, make_trainer(other))

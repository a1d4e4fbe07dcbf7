"""Checkpoints: whole or not there, exact, and readable by others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from training.test_trainer import TINY, batch
from transformers import GPT2Config, MixtralConfig
from transformers.configuration_utils import PretrainedConfig

from mads.config import ModelConfig, TrainingConfig
from mads.corpus.tokenizer import train_tokenizer
from mads.errors import DataError
from mads.layout import RunDir
from mads.training import checkpoint
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


def test_the_new_checkpoint_is_never_pruned(tmp_path: Path, tokenizer: Path) -> None:
    """The user went back to an older checkpoint: newer ones are given up, not kept instead."""
    run, trainer = RunDir(tmp_path), make_trainer()
    for step in (1, 2, 3):
        save_checkpoint(run, step, trainer, tokenizer, {}, keep=3)
    half = run.checkpoint(4).with_name("step-00000004.partial")
    half.mkdir()
    run.latest.write_text("step-00000001\n")
    assert load_checkpoint(run, trainer) == {"step": 1}
    save_checkpoint(run, 2, trainer, tokenizer, {}, keep=1)
    assert load_checkpoint(run, trainer) == {"step": 2}
    assert sorted(p.name for p in half.parent.iterdir()) == ["latest", "step-00000002"]


def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, trainer = RunDir(tmp_path), make_trainer()
    save_checkpoint(run, 1, trainer, tokenizer, {}, keep=1)

    def full(*_: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(DataError, match=r"step-00000002 cannot be written: No space left.*room"):
        save_checkpoint(run, 2, trainer, tokenizer, {}, keep=1)
    assert load_checkpoint(run, trainer) == {"step": 1}
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
    save_checkpoint(run, 2, one, tokenizer, {}, keep=1)
    expected = [one.step(step, batch()).loss for step in range(2, 4)]
    assert load_checkpoint(run, two) == {"step": 2}
    assert [two.step(step, batch()).loss for step in range(2, 4)] == expected


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

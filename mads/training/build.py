"""How the recipe's model is made: its shape, its first weights, and what it must be able to do."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig
from transformers.configuration_utils import PretrainedConfig

from mads.config import ModelConfig, TrainingConfig
from mads.errors import UsageError
from mads.training.model import LanguageModel, device_name
from mads.training.world import ALONE, World

_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# What transformers raises for a folder that it cannot make a model of.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    RecursionError,
    SafetensorError,
)


def model_config(config: ModelConfig, vocab_size: int, context: int) -> PretrainedConfig:
    """Return the Hugging Face configuration; raises UsageError when ``model.hf`` has none."""
    if config.hf:
        try:
            found: PretrainedConfig = AutoConfig.from_pretrained(config.hf, trust_remote_code=False)
        except _UNREADABLE as error:
            raise UsageError(
                f"model.hf: {config.hf!r} cannot be loaded: {_reason(error)}"
            ) from error
        return found
    return LlamaConfig(
        vocab_size=config.vocab_size or -(-vocab_size // 64) * 64,
        hidden_size=config.hidden_size,
        intermediate_size=config.ffn_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_heads,
        max_position_embeddings=context,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        tie_word_embeddings=config.tie_embeddings,
        use_cache=False,
    )


def build_model(
    config: ModelConfig,
    training: TrainingConfig,
    vocab_size: int,
    seed: int,
    world: World = ALONE,
) -> LanguageModel:
    """Build a model from the recipe with seeded initial weights, or load ``model.hf``.

    Raises UsageError when the device is not there, when the model cannot be loaded, or when the
    tokenizer has more tokens than it.
    """
    shape = model_config(config, vocab_size, training.context)
    largest = getattr(shape, "vocab_size", None)
    if largest is None:
        raise UsageError(f"model.hf: {config.hf!r} is no causal language model.")
    if vocab_size > largest:
        raise UsageError(
            f"model.vocab_size: found {largest}, but the store's tokenizer has {vocab_size} tokens."
        )
    limit = getattr(shape, "max_position_embeddings", None)
    if limit is not None and limit < training.context:
        raise UsageError(
            f"training.context: found {training.context}, but {config.hf!r} has only {limit} "
            "places."
        )
    device_name(training.device)
    lm = LanguageModel(_load(config, shape, seed), training, world)
    if not lm.sees_the_past_only():
        raise UsageError(
            f"model.hf: {config.hf!r} ({type(lm.model).__name__}) sees tokens that come later, so "
            "it cannot learn to predict them. Give a causal language model, a decoder."
        )
    lm.take_paths()
    if training.document_mask and not lm.documents_are_apart():
        raise UsageError(
            f"training.document_mask: the model {config.hf!r} lets a document see the one before "
            "it in its sequence; set training.document_mask = false."
        )
    if training.compile:
        lm.compile_blocks()
    lm.cut()
    return lm


def _load(config: ModelConfig, shape: PretrainedConfig, seed: int) -> nn.Module:
    model: nn.Module
    if config.hf and config.pretrained:
        _refuse_pickle(config.hf)
    try:
        if config.hf and config.pretrained:
            model = AutoModelForCausalLM.from_pretrained(
                config.hf, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
            )
            return model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                shape, dtype=torch.float32
            )
            return model
    except _UNREADABLE as error:
        raise UsageError(
            f"model.hf: {config.hf!r} is no causal language model: {_reason(error)}"
        ) from error


def _refuse_pickle(name: str) -> None:
    """Raise UsageError for a folder whose weights are a pickle only."""
    folder = Path(name)
    pickles = [folder / file for file in _PICKLES if (folder / file).is_file()]
    if pickles and not list(folder.glob("*.safetensors")):
        raise UsageError(
            f"model.hf: {pickles[0]} is a pickle, which can run code when it is read. Convert it "
            "to model.safetensors (save_pretrained of transformers does), and give that folder."
        )


def _reason(error: Exception) -> str:
    """Return the first line of an error."""
    return (str(error) or type(error).__name__).splitlines()[0]

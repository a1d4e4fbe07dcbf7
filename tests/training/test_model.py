"""Shapes and losses of the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, OPTConfig, T5Config
from transformers.configuration_utils import PretrainedConfig

from mads.config import ModelConfig, TrainingConfig
from mads.errors import DataError, UsageError
from mads.recipe import load_recipe, shipped_recipes
from mads.training.build import build_model, model_config
from mads.training.model import NO_LABEL, LanguageModel, TokenBatch
from mads.training.world import World

TINY = ModelConfig(hidden_size=16, num_layers=1, num_heads=2, ffn_size=32)


def count_parameters(config: PretrainedConfig) -> int:
    """Count a model's parameters without allocating them."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "expected"), [("paper-373m", 373_867_520), ("paper-1.3b", 1_345_423_360)]
)
def test_the_papers_shapes(name: str, expected: int) -> None:
    recipe = load_recipe(Path(name))
    config = model_config(recipe.model, 32_000, recipe.training.context)
    assert count_parameters(config) == expected


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_describes_a_model(name: str) -> None:
    recipe = load_recipe(Path(name))
    shape = model_config(recipe.model, recipe.tokenizer.vocab_size, recipe.training.context)
    assert shape.vocab_size >= recipe.tokenizer.vocab_size
    assert count_parameters(shape) > 0


def test_seeded_weights_and_an_untouched_generator() -> None:
    state = torch.get_rng_state()
    one, two = (build_model(TINY, TrainingConfig(), 100, seed=1) for _ in range(2))
    other = build_model(TINY, TrainingConfig(), 100, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    for name, parameter in one.parameters.items():
        assert torch.equal(parameter, two.parameters[name])
    head = "lm_head.weight"
    assert not torch.equal(one.parameters[head], other.parameters[head])


def test_documents_of_one_sequence_do_not_see_each_other() -> None:
    lm = build_model(TINY, TrainingConfig(), 100, seed=1)
    first = torch.randint(0, 100, (1, 5))
    second = torch.randint(0, 100, (1, 7))
    packed = torch.cat([first, second], dim=1)
    places = torch.cat([torch.arange(5), torch.arange(7)])[None]
    labels = torch.full_like(packed, -100)
    labels[:, :4], labels[:, 5:11] = first[:, 1:], second[:, 1:]
    loss = lm.token_losses(TokenBatch(packed, labels, places))
    for tokens, found in ((first, loss[:, :4]), (second, loss[:, 5:11])):
        own = torch.full_like(tokens, -100)
        own[:, :-1] = tokens[:, 1:]
        alone = lm.token_losses(TokenBatch(tokens, own))[:, :-1]
        assert torch.allclose(found, alone, atol=1e-5)


def test_bfloat16_is_for_training_only() -> None:
    """Feedback is measured in float32, whatever the precision of training."""
    tokens = torch.randint(0, 100, (2, 8), generator=torch.Generator().manual_seed(0))
    batch = TokenBatch(tokens, tokens)
    exact, rounded = (
        build_model(TINY, TrainingConfig(precision=p), 100, seed=1) for p in ("float32", "bfloat16")
    )
    true = exact.token_losses(batch)
    assert not torch.equal(rounded.token_losses(batch), true)
    with rounded.evaluating():
        assert torch.equal(rounded.token_losses(batch), true)
    assert not torch.equal(rounded.token_losses(batch), true)


def test_a_vocabulary_too_small_for_the_tokenizer() -> None:
    config = ModelConfig(hidden_size=16, num_layers=1, num_heads=2, ffn_size=32, vocab_size=64)
    with pytest.raises(UsageError, match=r"model.vocab_size: found 64, but .* 100 tokens"):
        build_model(config, TrainingConfig(), 100, seed=0)


def test_a_model_that_cannot_be_loaded() -> None:
    with pytest.raises(UsageError, match=r"model.hf: '/nowhere' cannot be loaded"):
        build_model(ModelConfig(hf="/nowhere"), TrainingConfig(), 100, seed=0)


def test_a_model_whose_documents_are_not_apart(tmp_path: Path) -> None:
    config = OPTConfig(
        vocab_size=128,
        hidden_size=16,
        word_embed_proj_dim=16,
        ffn_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    config.save_pretrained(str(tmp_path))
    model, training = ModelConfig(hf=str(tmp_path)), TrainingConfig(context=32)
    with pytest.raises(UsageError, match=r"lets a document see the one before.* = false"):
        build_model(model, training, 100, seed=0)
    build_model(model, replace(training, document_mask=False), 100, seed=0)
    with pytest.raises(UsageError, match=r"training.context: found 128, but .* only 64 places"):
        build_model(model, replace(training, context=128), 100, seed=0)


def test_a_model_that_is_no_causal_one(tmp_path: Path) -> None:
    T5Config(vocab_size=128, d_model=16, num_layers=1).save_pretrained(str(tmp_path))
    with pytest.raises(UsageError, match="is no causal language model"):
        build_model(ModelConfig(hf=str(tmp_path)), TrainingConfig(context=32), 100, seed=0)


def losses_of(lm: LanguageModel) -> torch.Tensor:
    tokens = torch.arange(8)[None] % 100
    return lm.token_losses(TokenBatch(tokens, tokens)).sum()


def test_a_model_that_sees_later_tokens(tmp_path: Path) -> None:
    """BERT has a head for next tokens, and reads both ways."""
    BertConfig(
        vocab_size=128,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    ).save_pretrained(str(tmp_path))
    with pytest.raises(UsageError, match=r"BertLMHeadModel\) sees tokens that come later"):
        build_model(ModelConfig(hf=str(tmp_path)), TrainingConfig(context=32), 100, seed=0)


def test_a_parameter_that_no_loss_uses_has_a_zero_gradient() -> None:
    lm = build_model(TINY, TrainingConfig(), 100, seed=0)
    lm.model.register_parameter("unused", torch.nn.Parameter(torch.ones(3)))
    for _ in range(2):
        found = lm.gradients(losses_of(lm))
        assert found["unused"].tolist() == [0.0, 0.0, 0.0]
        assert float(found["lm_head.weight"].abs().sum()) > 0


def test_a_parameter_that_is_used_must_have_a_gradient() -> None:
    lm = build_model(TINY, TrainingConfig(), 100, seed=0)
    lm.gradients(losses_of(lm))
    only = lm.parameters["model.norm.weight"].sum()
    with pytest.raises(DataError, match=r"'lm_head.weight' has no gradient, though training uses"):
        lm.gradients(only)


def test_gradients_are_those_of_autograd_and_leave_the_models_own_alone() -> None:
    lm = build_model(TINY, TrainingConfig(), 100, seed=0)
    names = list(lm.parameters)
    expected = torch.autograd.grad(losses_of(lm), list(lm.parameters.values()))
    kept = torch.ones_like(lm.parameters[names[0]])
    lm.parameters[names[0]].grad = kept
    found = lm.gradients(losses_of(lm))
    assert all(torch.equal(found[name], e) for name, e in zip(names, expected, strict=True))
    assert lm.parameters[names[0]].grad is kept
    assert torch.equal(kept, torch.ones_like(kept))
    assert {lm.parameters[name].grad for name in names[1:]} == {None}


def shares(batch: TokenBatch, rank: int, world_size: int, size: int) -> list[TokenBatch]:
    return list(batch.shares(World(rank, world_size), size))


def test_a_share_is_every_size_th_sequence() -> None:
    tokens = torch.arange(10).view(5, 2)
    batch = TokenBatch(tokens, tokens, tokens)
    (first,), (second,) = (shares(batch, rank, 2, 5) for rank in range(2))
    assert first.tokens_BT.tolist() == [[0, 1], [4, 5], [8, 9]]
    assert second.labels_BT.tolist() == [[2, 3], [6, 7]]
    assert second.positions_BT is not None
    assert shares(TokenBatch(tokens, tokens), 1, 2, 5)[0].positions_BT is None
    grouped = TokenBatch(tokens, tokens, groups_BT=tokens)
    found = shares(grouped, 1, 2, 1)[1].groups_BT
    assert found is not None
    assert found.tolist() == [[6, 7]]


def test_every_process_has_as_many_shares_and_an_idle_one_has_no_labels() -> None:
    tokens = torch.arange(10).view(5, 2)
    batch = TokenBatch(tokens, tokens)
    counts = [[len(share.tokens_BT) for share in shares(batch, rank, 3, 1)] for rank in range(3)]
    assert counts == [[1, 1], [1, 1], [1, 1]]
    assert shares(batch, 2, 3, 1)[0].labels_BT.tolist() == [[4, 5]]
    idle = shares(batch, 2, 3, 1)[1]
    assert idle.labels_BT.tolist() == [[NO_LABEL] * 2]
    assert [len(share.tokens_BT) for share in shares(batch, 0, 1, 2)] == [2, 2, 1]


@pytest.fixture
def llama(tmp_path: Path) -> ModelConfig:
    """A folder with a model's weights."""
    lm = build_model(TINY, TrainingConfig(), 100, seed=0)
    lm.model.save_pretrained(str(tmp_path / "hf"))  # type: ignore[operator]
    return ModelConfig(hf=str(tmp_path / "hf"), pretrained=True)


def test_a_pickle_is_not_read(llama: ModelConfig) -> None:
    folder = Path(llama.hf)
    assert build_model(llama, TrainingConfig(), 100, seed=5).parameters
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"pytorch_model\.bin is a pickle, .* Convert it"):
        build_model(llama, TrainingConfig(), 100, seed=0)


@pytest.mark.parametrize("damage", ["short", "gone", "other shape", "config", "nested"])
def test_weights_that_cannot_be_loaded_are_one_message(llama: ModelConfig, damage: str) -> None:
    folder = Path(llama.hf)
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "short":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "gone":
        weights.unlink()
    elif damage == "other shape":
        config.write_text(config.read_text().replace('"hidden_size": 16', '"hidden_size": 32'))
    else:
        config.write_text("{" if damage == "config" else '{"a":' * 10_000)
    with pytest.raises(UsageError, match=r"model\.hf: '.*hf' (cannot be loaded|is no causal)"):
        build_model(llama, TrainingConfig(), 100, seed=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"training.device: 'cuda:0' is not there"):
        build_model(TINY, TrainingConfig(device="cuda:0"), 100, seed=0)

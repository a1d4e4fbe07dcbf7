"""Our attention and loss against the plain path: full logits, one explicit mask per batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)
from transformers.configuration_utils import PretrainedConfig

from mads.config import TrainingConfig
from mads.training import loss as loss_module
from mads.training.attention import NAME, Foreign, attend, borders
from mads.training.loss import NO_LABEL, head_losses
from mads.training.model import LanguageModel, Paths, TokenBatch

T = 16
PATTERNS: dict[str, list[list[int]]] = {
    "single tokens": [[1] * T, [1, 15]],
    "whole contexts": [[T], [T]],
    "cut at the edge": [[7, 9], [3, 3, 10]],
    "mixed": [[1, 14, 1], [5, 1, 1, 9]],
}
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 96,
}


def llama(**other: Any) -> PretrainedConfig:
    return LlamaConfig(**SIZES, intermediate_size=64, max_position_embeddings=64, **other)


def build(config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, dtype=dtype
    )
    return model


def packed(lengths: Sequence[Sequence[int]]) -> TokenBatch:
    """Return tokens at random, and documents of these lengths in each sequence."""
    places = torch.stack([torch.cat([torch.arange(n) for n in row]) for row in lengths])
    tokens = torch.randint(0, 96, places.shape, generator=torch.Generator().manual_seed(1))
    labels = torch.full_like(tokens, NO_LABEL)
    labels[:, :-1] = torch.where(places[:, 1:] == 0, NO_LABEL, tokens[:, 1:])
    return TokenBatch(tokens, labels, places)


def plain_losses(model: nn.Module, batch: TokenBatch, lengths: Sequence[Sequence[int]]) -> Tensor:
    """Return losses from full logits, with a mask that is made document by document."""
    allowed = torch.zeros(len(lengths), 1, T, T, dtype=torch.bool)
    for row, sizes in enumerate(lengths):
        start = 0
        for size in sizes:
            stop = start + size
            allowed[row, 0, start:stop, start:stop] = torch.ones(size, size).tril().bool()
            start = stop
    model.set_attn_implementation("sdpa")  # type: ignore[operator]
    logits = model(
        input_ids=batch.tokens_BT,
        position_ids=batch.positions_BT,
        attention_mask=allowed,
        use_cache=False,
    ).logits.float()
    flat = F.cross_entropy(logits.flatten(0, 1), batch.labels_BT.flatten(), reduction="none")
    return flat.view(batch.labels_BT.shape)


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("groups", [4, 2])
def test_losses_and_gradients_are_those_of_the_plain_path(
    name: str, tied: bool, groups: int
) -> None:
    config = llama(tie_word_embeddings=tied, num_key_value_heads=groups)
    lengths, batch = PATTERNS[name], packed(PATTERNS[name])
    plain, lm = build(config), LanguageModel(build(config), TrainingConfig())
    lm.take_paths()
    assert lm.paths == Paths(attention=True, loss=True)
    expected, found = plain_losses(plain, batch, lengths), lm.token_losses(batch)
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)
    expected.sum().backward()  # type: ignore[no-untyped-call]
    found.sum().backward()  # type: ignore[no-untyped-call]
    for (key, one), two in zip(plain.named_parameters(), lm.model.parameters(), strict=True):
        assert one.grad is not None, key
        assert two.grad is not None, key
        assert torch.allclose(one.grad, two.grad, rtol=1e-5, atol=1e-6), key


def test_sequences_of_one_document_need_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, bool]] = []
    attention = F.scaled_dot_product_attention

    def noted(*parts: Tensor, **named: object) -> Tensor:
        seen.append((named["attn_mask"], bool(named["is_causal"])))
        return attention(*parts, **named)  # type: ignore[arg-type]

    lm = LanguageModel(build(llama()), TrainingConfig())
    lm.take_paths()
    monkeypatch.setattr(F, "scaled_dot_product_attention", noted)
    batch = packed([[T], [T]])
    alone = lm.token_losses(TokenBatch(batch.tokens_BT, batch.labels_BT))
    assert seen == [(None, True)] * 2  # of two layers
    assert torch.allclose(alone, lm.token_losses(batch), atol=1e-6)
    masks = [mask for mask, _ in seen[2:]]
    assert masks[0] is masks[1] is not None  # one for both layers


def test_no_mask_of_a_models_own_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import masking_utils

    lm = LanguageModel(build(llama()), TrainingConfig())
    lm.take_paths()
    built: list[object] = []
    for kind in ("sdpa", "eager", "flex_attention"):
        monkeypatch.setitem(
            masking_utils.ALL_MASK_ATTENTION_FUNCTIONS, kind, lambda *a, **k: built.append(k)
        )
    lm.token_losses(packed(PATTERNS["mixed"]))
    assert not built


@pytest.mark.parametrize("name", PATTERNS)
def test_borders_say_where_documents_begin(name: str) -> None:
    lengths, places = PATTERNS[name], packed(PATTERNS[name]).positions_BT
    assert places is not None
    mask = borders(places, flash=False).mask_B1TT
    assert mask is not None
    document = [[n for n, size in enumerate(row) for _ in range(size)] for row in lengths]
    for row in range(2):
        for i in range(T):
            for j in range(T):
                allowed = j <= i and document[row][i] == document[row][j]
                assert bool(mask[row, 0, i, j]) == allowed
    found = borders(places, flash=True).cu_seq_lens
    assert found is not None
    flat = [size for row in lengths for size in row]
    expected = [sum(flat[:n]) for n in range(len(flat))]
    assert found[: len(flat)].tolist() == expected
    assert set(found[len(flat) :].tolist()) == {2 * T}
    assert (found.dtype, len(found)) == (torch.int32, 64)


def test_a_part_of_a_document_at_the_edge_counts_as_one() -> None:
    """A sequence may begin inside a document, whose places then do not begin at 0."""
    places = torch.arange(5, 5 + T)[None].clone()
    places[0, 4:] = torch.arange(T - 4)
    found = borders(places, flash=True).cu_seq_lens
    assert found is not None
    assert found[:3].tolist() == [0, 4, T]


CONFIGS: dict[str, tuple[PretrainedConfig, Paths]] = {
    "grouped queries with norms": (
        Qwen3Config(**SIZES, intermediate_size=64, num_key_value_heads=2, head_dim=8),
        Paths(True, True),
    ),
    "a window larger than the context": (
        MistralConfig(**SIZES, intermediate_size=64, num_key_value_heads=2, sliding_window=64),
        Paths(True, True),
    ),
    "a window within the context": (
        MistralConfig(**SIZES, intermediate_size=64, num_key_value_heads=2, sliding_window=8),
        Paths(False, True),
    ),
    "capped logits and scores": (
        Gemma2Config(**SIZES, intermediate_size=64, num_key_value_heads=2, head_dim=8),
        Paths(False, False),
    ),
    "scaled logits": (
        GraniteConfig(**SIZES, intermediate_size=64, num_key_value_heads=2, logits_scaling=8.0),
        Paths(True, False),
    ),
    "rotary in part": (GPTNeoXConfig(**SIZES, intermediate_size=64), Paths(True, True)),
    "learned positions": (
        GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=96, attn_pdrop=0.0),
        Paths(True, True),
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_that_wants_something_else_gets_its_own_path(name: str) -> None:
    config, expected = CONFIGS[name]
    lm = LanguageModel(build(config), TrainingConfig())
    batch = packed(PATTERNS["mixed"])
    with lm.evaluating(), torch.no_grad():
        before = lm.token_losses(batch)
        lm.take_paths()
        assert lm.paths == expected
        assert torch.allclose(lm.token_losses(batch), before, atol=1e-5)


def test_what_attention_does_not_do_is_said() -> None:
    part = torch.zeros(1, 2, 4, 8)
    module = nn.Module()
    with pytest.raises(Foreign, match="window"):
        attend(module, part, part, part, None, sliding_window=2)
    with pytest.raises(Foreign, match="softcap"):
        attend(module, part, part, part, None, softcap=50.0)
    with pytest.raises(Foreign, match="mask"):
        attend(module, part, part, part, torch.ones(4, 4))
    assert attend(module, part, part, part, None, sliding_window=4)[0].shape == (1, 4, 2, 8)


@pytest.mark.parametrize("few", [False, True])
def test_losses_in_parts_are_those_of_all_logits(
    few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_module, "KEPT_NUMBERS", 1)
    monkeypatch.setattr(loss_module, "CHUNK", 7)
    rng = torch.Generator().manual_seed(0)
    head = nn.Linear(8, 50, bias=False)
    hidden = torch.randn(30, 8, generator=rng).requires_grad_()
    label = torch.randint(0, 50, (30,), generator=rng)
    label[torch.rand(30, generator=rng) < 0.6] = NO_LABEL
    expected = F.cross_entropy(head(hidden), label, reduction="none")
    want = torch.autograd.grad(expected.sum(), (hidden, head.weight))
    found = head_losses(head, hidden, label, few)
    assert torch.allclose(found, expected, atol=1e-6)
    for one, two in zip(want, torch.autograd.grad(found.sum(), (hidden, head.weight)), strict=True):
        assert torch.allclose(one, two, atol=1e-6)
    nothing = head_losses(head, hidden, torch.full_like(label, NO_LABEL), few)
    assert nothing.tolist() == [0.0] * 30


def test_logits_of_a_large_batch_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the backward pass holds is hidden states, not N · V numbers."""
    monkeypatch.setattr(loss_module, "KEPT_NUMBERS", 1)
    monkeypatch.setattr(loss_module, "CHUNK", 16)
    head, hidden = nn.Linear(4, 1000, bias=False), torch.randn(64, 4, requires_grad=True)
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        head_losses(head, hidden, torch.zeros(64, dtype=torch.int64), few=False)
    assert max(kept, default=0) < 64 * 1000 / 4


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo looks at all
def test_a_compiled_block_is_one_graph() -> None:
    lm = LanguageModel(build(llama()), TrainingConfig())
    lm.take_paths()
    batch = packed(PATTERNS["mixed"])
    expected = lm.token_losses(batch)
    torch._dynamo.reset()
    for block in lm.blocks:
        block.compile(fullgraph=True, dynamic=False, backend="eager")
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    assert torch.allclose(lm.token_losses(batch), expected, atol=1e-6)
    assert graphs["unique_graphs"] - before in (1, 2)  # blocks are alike
    with lm.evaluating():
        before = graphs["unique_graphs"]
        lm.token_losses(TokenBatch(batch.tokens_BT[:, :9], batch.labels_BT[:, :9]))
        assert graphs["unique_graphs"] == before  # feedback has many shapes, none is compiled


def test_the_name_of_our_attention_is_not_saved(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Else nobody else could load the model."""
    folder = tmp_path_factory.mktemp("model")
    lm = LanguageModel(build(llama()), TrainingConfig())
    lm.take_paths()
    lm.model.save_pretrained(folder)  # type: ignore[operator]
    assert f'"{NAME}"' not in (folder / "config.json").read_text()
    again = AutoModelForCausalLM.from_pretrained(folder)
    assert again.config._attn_implementation == "sdpa"

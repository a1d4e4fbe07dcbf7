"""What only a GPU can show: `make gpu` runs these tests, elsewhere they are skipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import planted
import pytest
import torch
from run.watching import Quiet
from training.test_trainer import batch

from mads.config import ModelConfig, TrainingConfig
from mads.errors import Interrupted
from mads.run.loop import train
from mads.run.records import Metrics, RoundRecord
from mads.store.store import Store
from mads.training.attention import attend, borders
from mads.training.build import build_model
from mads.training.data import padded_batch
from mads.training.trainer import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
# Heads of 32, as flash attention wants them.
SHAPE = ModelConfig(hidden_size=64, num_layers=2, num_heads=2, ffn_size=128)
CONFIG = TrainingConfig(device="cuda", warmup=1, learning_rate=1e-2, micro_batch=4, context=12)


def places() -> torch.Tensor:
    found = torch.arange(128).repeat(3, 1)
    found[0, 5:] -= 5
    found[1, 127:] -= 127
    found[2, 1:] -= 1
    found[2, 64:] -= 63
    return found.cuda()


@pytest.mark.parametrize("keys", [4, 2])
def test_borders_give_what_a_mask_gives(keys: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(3, 4, 128, 64, device="cuda", dtype=torch.bfloat16)
    key, value = (query.new_empty(3, keys, 128, 64).normal_() for _ in range(2))
    module = torch.nn.Identity()
    found, expected = (
        attend(module, query, key, value, None, **borders(places(), flash).arguments(query.device))[
            0
        ]
        for flash in (True, False)
    )
    assert torch.allclose(found.float(), expected.float(), atol=2e-2)


def test_documents_without_tokens_at_the_end_change_nothing() -> None:
    torch.manual_seed(0)
    parts = [torch.randn(3, 4, 128, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    starts = borders(places(), flash=True).cu_seq_lens
    assert starts is not None
    longer = torch.cat([starts, starts.new_full((64,), 3 * 128)])
    found = [
        attend(torch.nn.Identity(), parts[0], parts[1], parts[2], None, mads_borders=one)[0]
        for one in (starts, longer)
    ]
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize("compiled", [False, True])
def test_steps_are_those_of_a_cpu_but_for_rounding(compiled: bool) -> None:
    losses = []
    for device, flag in (("cpu", False), ("cuda", compiled)):
        config = replace(CONFIG, device=device, compile=flag)
        trainer = Trainer(build_model(SHAPE, config, 100, 0), config, 0)
        losses.append([trainer.step(n, batch()).loss for n in range(8)])
    assert losses[1] == pytest.approx(losses[0], rel=3e-2)
    assert losses[1][-1] < losses[1][0] - 0.5


def test_a_run_that_was_stopped_ends_bit_for_bit_the_same(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    recipe = planted.recipe(folder, steps=20, device="cuda")
    recipe = replace(recipe, model=SHAPE)
    whole = train(store, tmp_path / "whole", recipe, Quiet())
    with pytest.raises(Interrupted):
        train(store, tmp_path / "run", recipe, Quiet(stop_after=8))
    again = train(store, tmp_path / "run", recipe, Quiet())
    assert (again.losses, again.weights) == (whole.losses, whole.weights)


def test_rewards_agree_with_the_oracle(folder: Path, store: Store, tmp_path: Path) -> None:
    recipe = replace(planted.recipe(folder, steps=20, device="cuda"), model=SHAPE)
    train(store, tmp_path / "run", recipe, Quiet())
    records = Metrics(tmp_path / "run" / "metrics.jsonl").read()
    errors = [r.feedback.oracle_error for r in records if isinstance(r, RoundRecord) and r.feedback]
    assert len(errors) == 3
    assert all(error is not None and error < 0.05 for error in errors)


def test_padding_has_no_loss_on_a_gpu() -> None:
    lm = build_model(SHAPE, CONFIG, 100, 0)
    ids = [np.array([5, 6, 7]), np.array([8, 9])]
    losses = lm.token_losses(padded_batch(ids, [1, 1])).detach().cpu()
    assert (losses != 0).tolist() == [[True, True, False], [True, False, False]]

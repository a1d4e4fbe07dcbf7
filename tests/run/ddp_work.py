"""A loop of one's own under DDP, as one of several processes: ``ddp_work.py STORE RECIPE FOLDER``.

Each process writes what it has seen into FOLDER/RANK.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaConfig, LlamaForCausalLM

from mads import Session


def main(store: str, recipe: str, folder: Path) -> None:
    """Train until the recipe's last step."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    model = DistributedDataParallel(LlamaForCausalLM(shape))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    notes: list[str] = []
    seen: list[list[int]] = []
    with Session(store, recipe, folder / "run", model, optimizer, note=notes.append) as session:
        for step, batch in session:
            seen.append(batch["input_ids"][:, 0].tolist())
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            session.done(step, float(loss.detach()))
        weights = session.weights
    sums = [float(p.double().sum()) for p in model.parameters()]
    found = {"weights": weights, "seen": seen, "notes": notes, "parameters": sums}
    (folder / f"{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))

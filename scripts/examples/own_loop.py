"""The selection in a training loop of one's own: `python own_loop.py STORE RECIPE RUN [STEPS]`.

STORE is what `mads annotate` wrote. The recipe's [training] says how large batches are and when
rounds begin, its [rewards.tasks] what the model is to become good at. Under torchrun the same loop
works with `DistributedDataParallel`: each process is given its own sequences.
"""

from __future__ import annotations

import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mads import Session

MICRO = 4  # sequences in one forward pass


def main(store: str, recipe: str, run: str) -> None:
    """Train a small model on what the session selects."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=4096,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            tie_word_embeddings=True,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    with Session(store, recipe, run, model, optimizer) as session:
        for step, batch in session:
            labels = (batch["labels"] != -100).sum()
            total = 0.0
            for start in range(0, len(batch["input_ids"]), MICRO):
                part = {name: value[start : start + MICRO] for name, value in batch.items()}
                found = model(**part, num_items_in_batch=labels).loss
                found.backward()
                total += float(found.detach())
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            session.done(step, total)  # at the end of a round it measures and selects
            print(f"step {step}: loss {total:.3f}")
        print(session.weights)


if __name__ == "__main__":
    main(*sys.argv[1:4])

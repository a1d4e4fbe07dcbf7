"""The selection in Hugging Face's Trainer: `python hf_trainer.py STORE RECIPE RUN`.

The trainer's batch must be the recipe's: per_device_train_batch_size x gradient_accumulation_steps
x processes = training.batch_tokens / training.context. Needs `pip install accelerate`.
"""

from __future__ import annotations

import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from mads import Session, SessionCallback


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
        )
    )
    with Session(store, recipe, run, model) as session:
        settings = session.recipe.training
        sequences = settings.batch_tokens // settings.context
        arguments = TrainingArguments(
            output_dir=f"{run}-trainer",
            max_steps=settings.steps,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=sequences // 4,
            learning_rate=3e-3,
            logging_steps=5,
            save_strategy="no",
            report_to="none",
            remove_unused_columns=False,
            dataloader_num_workers=0,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=session.dataset(),
            callbacks=[SessionCallback(session)],
        )
        trainer.train()
        print(session.weights)


if __name__ == "__main__":
    main(*sys.argv[1:4])

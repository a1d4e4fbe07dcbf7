"""A session inside Hugging Face's Trainer."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from mads.errors import UsageError
from mads.run.session import Session


class SessionCallback(TrainerCallback):
    """Tells a session of the trainer's steps and of its optimizer.

    The trainer reads ``session.dataset()``, one batch of which must be a step's: its batch size per
    device, times gradient accumulation, times processes. It looks one batch ahead, so a round is
    measured one step before its end. ``dataloader_num_workers`` must be 0.
    """

    def __init__(self, session: Session) -> None:
        """Follow a trainer's steps for a session."""
        self._session = session
        self._loss: float | None = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **others: Any,
    ) -> None:
        """Take the optimizer; raises UsageError for a batch that is not the recipe's."""
        del control
        training = self._session.recipe.training
        expected = training.batch_tokens // training.context
        found = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        if found != expected:
            raise UsageError(
                f"a step of the trainer reads {found} sequences, expected {expected} "
                "(training.batch_tokens / training.context). Set per_device_train_batch_size and "
                "gradient_accumulation_steps accordingly."
            )
        if state.global_step != self._session.step:
            raise UsageError(
                f"the trainer begins after {state.global_step} steps, and the session after "
                f"{self._session.step}. Give the session start={state.global_step}."
            )
        optimizer = others.get("optimizer")
        inner = getattr(optimizer, "optimizer", optimizer)
        if isinstance(inner, torch.optim.Optimizer):
            self._session.use(inner)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **others: Any,
    ) -> None:
        """Keep the loss that the trainer tells, a mean over its last steps."""
        del args, state, control, others
        self._loss = (logs or {}).get("loss", self._loss)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **others: Any,
    ) -> None:
        """Count a step."""
        del args, control, others
        self._session.done(state.global_step - 1, self._loss)

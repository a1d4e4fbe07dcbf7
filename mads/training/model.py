"""The language model and the one way in which its loss is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's users know
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from mads.config import TrainingConfig
from mads.errors import DataError, UsageError
from mads.training.attention import NAME, Foreign, borders
from mads.training.loss import NO_LABEL, head_losses
from mads.training.sharded import Entry, cut, own_part
from mads.training.trials import agree, decoder_blocks, large_logits, trial_tokens
from mads.training.world import ALONE, World

__all__ = ["NO_LABEL", "LanguageModel", "TokenBatch"]

Precision = Literal["float32", "tf32", "bfloat16"]

# The run has a view of its own.
transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Tokens, the next token at each place (NO_LABEL where no loss counts), places in documents.

    ``positions_BT`` is None when every sequence is one document from its first token on.
    ``groups_BT`` is the group of each place's label, None where nobody asks for groups.
    """

    tokens_BT: Tensor
    labels_BT: Tensor
    positions_BT: Tensor | None = None
    groups_BT: Tensor | None = None

    def rows(self, start: int, stop: int) -> TokenBatch:
        """Return the sequences [start, stop)."""
        return self._part(slice(start, stop))

    def shares(self, world: World, size: int) -> Iterator[TokenBatch]:
        """Yield this process's sequences, every ``world.size``-th, in batches of up to ``size``.

        All processes are given as many batches; where one has no sequence left, it is given one
        without labels, since all must take part in each forward pass.
        """
        own = self._part(slice(world.rank, None, world.size))
        most = -(-len(self.tokens_BT) // world.size)
        for start in range(0, most, size):
            yield own.rows(start, start + size) if start < len(own.tokens_BT) else self._idle()

    def _idle(self) -> TokenBatch:
        """Return a sequence that counts for nothing."""
        first = self.rows(0, 1)
        return replace(first, labels_BT=torch.full_like(first.labels_BT, NO_LABEL))

    def _part(self, own: slice) -> TokenBatch:
        return TokenBatch(
            self.tokens_BT[own],
            self.labels_BT[own],
            None if self.positions_BT is None else self.positions_BT[own],
            None if self.groups_BT is None else self.groups_BT[own],
        )


@dataclass(frozen=True, slots=True)
class Paths:
    """Which of our own ways a model can take; where not, it is called as transformers call it."""

    attention: bool = False  # ``attention.attend`` in every layer
    loss: bool = False  # the head apart from the decoder, so logits are made in parts


class LanguageModel:
    """A causal language model on its device, in its precision."""

    def __init__(self, model: nn.Module, training: TrainingConfig, world: World = ALONE) -> None:
        self.world = world
        self.device = torch.device(device_name(training.device))
        self.model = model.to(self.device)
        wanted = training.precision
        if wanted == "auto":
            wanted = "bfloat16" if self.device.type == "cuda" else "float32"
        self.bfloat16 = wanted == "bfloat16"
        self.paths = Paths()
        self._entry: Entry | None = None  # where the model is cut into parts
        config = getattr(model, "config", None)
        self._own_attention = str(getattr(config, "_attn_implementation", "eager"))
        self._evaluating = False
        self.feedback_precision: Precision = "float32"  # see ``feedback_in``
        self._used: set[str] = set()
        # Float32 holds half of what a micro-batch of training is known to fit.
        self.gradient_tokens = max(training.micro_batch * training.context // 2, 1)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name; tied ones once."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    @property
    def parts(self) -> dict[str, Tensor]:
        """This process's part of each trainable parameter; changing it changes the model."""
        return {name: own_part(p) for name, p in self.parameters.items()}

    def cut(self) -> None:
        """Cut the parameters over the world's processes; alone, each has one part."""
        if not self.world.is_alone:
            self._entry = cut(self.model, self.blocks, self.device, self.world.size)

    @property
    def blocks(self) -> list[nn.Module]:
        """The decoder's blocks."""
        return decoder_blocks(self.model)

    def take_paths(self) -> None:
        """Take our own attention and loss if they give the losses that the model gives itself.

        Both are tried on a few tokens, in sequences of several documents and of one.
        """
        expected = self._trial()
        for paths in (Paths(True, True), Paths(False, True), Paths(True, False)):
            self._take(paths)
            try:
                found = self._trial()
            except (Foreign, AttributeError, TypeError, ValueError, RuntimeError, KeyError):
                continue
            if all(map(agree, expected, found)):
                return
        self._take(Paths())

    def _take(self, paths: Paths) -> None:
        self.paths = paths
        if isinstance(self.model, PreTrainedModel):
            self.model.set_attn_implementation(NAME if paths.attention else self._own_attention)

    def _trial(self) -> list[Tensor]:
        """Return the losses of two small batches."""
        tokens_BT = trial_tokens(self.model)
        packed = torch.arange(8).repeat(2, 2)
        packed[1] = torch.arange(16)
        packed[1, 3:] -= 3
        batches = (
            TokenBatch(tokens_BT, tokens_BT.roll(-1, 1), packed),
            TokenBatch(tokens_BT, tokens_BT.roll(-1, 1)),
        )
        with self.evaluating(), torch.no_grad(), large_logits(self.model):
            return [self.token_losses(batch) for batch in batches]

    def sees_the_past_only(self) -> bool:
        """Tell whether a place's logits are the same whatever tokens come later."""
        tokens_BT = trial_tokens(self.model)
        tokens_BT[1, :8] = tokens_BT[0, :8]
        with self.evaluating(), torch.no_grad():
            logits_BTV = self.logits(TokenBatch(tokens_BT, tokens_BT))[:, :8]
        return agree(logits_BTV[0], logits_BTV[1])

    def documents_are_apart(self) -> bool:
        """Tell whether a document's losses are the same whatever document stands before it."""
        tokens_BT = trial_tokens(self.model)
        tokens_BT[1, 8:] = tokens_BT[0, 8:]
        batch = TokenBatch(tokens_BT, tokens_BT, torch.arange(16).repeat(2, 1) % 8)
        with self.evaluating(), torch.no_grad():
            loss_BT = self.token_losses(batch)[:, 8:]
        return agree(loss_BT[0], loss_BT[1])

    def compile_blocks(self) -> None:
        """Compile each block of the decoder for training; its graph is whole, its shapes fixed."""
        for block in self.blocks:
            # What gathers a block's parameters stands around its ``forward`` and stays eager.
            block.forward = torch.compile(block.forward, fullgraph=True, dynamic=False)

    def logits(self, batch: TokenBatch) -> Tensor:
        """Return the logits of the next token at each place, in float32, shape (B, T, V)."""
        tokens, extra = self._arguments(batch)
        with self._autocast():
            found: Tensor = self.model(input_ids=tokens, use_cache=False, **extra).logits
        return found.float()

    def token_losses(self, batch: TokenBatch) -> Tensor:
        """Return the cross-entropy in nats at each place, 0 where no loss counts, shape (B, T).

        Where the model is cut, all processes call it at the same time, each with its own batch.
        """
        call = self._losses
        loss_N: Tensor = call(batch) if self._entry is None else self._entry(call, batch)
        return loss_N.view(batch.labels_BT.shape)

    def _losses(self, batch: TokenBatch) -> Tensor:
        """Return what ``token_losses`` does, in one row."""
        label_N = batch.labels_BT.to(self.device, non_blocking=True).flatten()
        if not self.paths.loss:
            logits_NV = self.logits(batch).flatten(0, 1)
            return F.cross_entropy(logits_NV, label_N, ignore_index=NO_LABEL, reduction="none")
        tokens, extra = self._arguments(batch)
        few = self._evaluating and 2 * int((batch.labels_BT != NO_LABEL).sum()) < label_N.numel()
        with self._autocast():
            decoder, head = self.model.get_decoder(), self.model.get_output_embeddings()  # type: ignore[operator]
            hidden = decoder(input_ids=tokens, use_cache=False, **extra).last_hidden_state
            return head_losses(head, hidden.flatten(0, 1), label_N, few)

    def _arguments(self, batch: TokenBatch) -> tuple[Tensor, dict[str, Any]]:
        """Return the tokens on the device, and what the model is called with beside them."""
        tokens = batch.tokens_BT.to(self.device, non_blocking=True)
        if batch.positions_BT is None:
            return tokens, {}
        # Positions that start again at 0 keep attention inside each document.
        positions = batch.positions_BT.to(self.device, non_blocking=True)
        extra: dict[str, Any] = {"position_ids": positions}
        if self.paths.attention:
            flash = self.device.type == "cuda" and self.bfloat16 and not self._evaluating
            # Documents are counted where the batch comes from, so nobody waits for the GPU.
            places = batch.positions_BT if flash else positions
            extra |= borders(places, flash).arguments(self.device)
        return tokens, extra

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        """Return this process's part of a loss's gradient, by parameter; ``.grad`` stays as it was.

        It is zero for a parameter that no loss has used so far. Raises DataError for one that was
        used before, in a training step say, and has no gradient now.
        """
        parameters = self.parameters
        before = {name: p.grad for name, p in parameters.items()}
        for p in parameters.values():
            p.grad = None
        try:
            # Not torch.autograd.grad, which answers None for every sharded parameter.
            loss.backward()  # type: ignore[no-untyped-call]
            found = {name: p.grad for name, p in parameters.items()}
        finally:
            for name, p in parameters.items():
                p.grad = before[name]
        missing = sorted(name for name in self._used if found[name] is None)
        if missing:
            raise DataError(
                f"the parameter {missing[0]!r} has no gradient, though training uses it "
                f"({len(missing)} such parameters). Rewards need a model whose every loss uses the "
                "same parameters: set model.hf to another one."
            )
        self.mark_used(name for name, part in found.items() if part is not None)
        return {
            name: torch.zeros_like(own_part(parameters[name])) if part is None else own_part(part)
            for name, part in found.items()
        }

    def mark_used(self, names: Iterable[str]) -> None:
        """Note parameters that a loss has used: from now on each of them must have a gradient."""
        self._used.update(names)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Compute losses without dropout, in float32; the mode is put back.

        Batches of feedback have many shapes, for each of which a compiled model would be compiled
        again.
        """
        mode = self.model.training, self._evaluating
        before = torch.get_float32_matmul_precision()
        self.model.eval()
        self._evaluating = True
        torch.set_float32_matmul_precision(
            "high" if self.feedback_precision == "tf32" else "highest"
        )
        try:
            with torch.compiler.set_stance("force_eager"):
                yield
        finally:
            self.model.train(mode[0])
            self._evaluating = mode[1]
            torch.set_float32_matmul_precision(before)

    @contextlib.contextmanager
    def feedback_in(self, wanted: Literal["auto"] | Precision) -> Iterator[None]:
        """Evaluate in another precision than float32 for a while.

        Feedback is a difference of nearly equal losses, so the coarser they are the farther apart
        they must be (``rewards/sections.py``). Weights stay float32 whatever the precision is.
        """
        before = self.feedback_precision
        auto: Precision = "tf32" if self.device.type == "cuda" else "float32"
        self.feedback_precision = auto if wanted == "auto" else wanted
        try:
            yield
        finally:
            self.feedback_precision = before

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        coarse = self.feedback_precision == "bfloat16" if self._evaluating else self.bfloat16
        if not coarse:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


def device_name(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"training.device: {name!r} is not known; give auto, cpu, cuda or cuda:0.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"training.device: {name!r} is not there; torch sees no GPU.")
    return name

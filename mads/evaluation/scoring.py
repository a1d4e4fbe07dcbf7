"""Log-likelihoods of continuations under a language model.

    (context, continuation) -> tokens, cut where the context ends -> windows of the model's context
      -> batches of like length, equal inputs once -> one log-likelihood for each pair

Tokens and windows are those of lm-evaluation-harness 0.4 (``HFLM``), so scores are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from mads.config import ModelConfig, TrainingConfig
from mads.corpus.tokenizer import load_pretrained
from mads.errors import DataError, UsageError
from mads.layout import RunDir, kind_of
from mads.training.build import build_model
from mads.training.checkpoint import latest_checkpoint
from mads.training.data import padded_batch
from mads.training.model import LanguageModel

CHUNK = 4096  # pairs whose tokens are held at a time
DEFAULT_CONTEXT = 2048  # of a model that does not say it
_LARGEST_CONTEXT = 10**9  # what stands for "any" in tokenizers


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and its continuation."""

    context: str
    continuation: str


@dataclass(slots=True)
class Score:
    """What a model makes of a continuation.

    ``log_likelihood`` is in nats; ``greedy`` tells whether each of its tokens is the most likely
    one, ``truncated`` whether the beginning of the context did not fit.
    """

    log_likelihood: float = 0.0
    greedy: bool = True
    truncated: bool = False


Tokens = tuple[int, ...]


def windows(tokens: Sequence[int], num_scored: int, context: int) -> Iterator[tuple[Tokens, int]]:
    """Yield (tokens, how many of the last count): each of the last ``num_scored`` counts once.

    The model reads all tokens of a window but the last, ``context`` at most; what does not fit is
    left out at the beginning. A continuation longer than the context is scored in several windows.
    """
    first = len(tokens) - num_scored
    while first < len(tokens):
        stop = min(first + context, len(tokens))
        yield tuple(tokens[max(stop - context - 1, 0) : stop]), stop - first
        first = stop


class Scorer:
    """A language model with its tokenizer."""

    def __init__(
        self, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, batch_size: int
    ) -> None:
        self.lm, self.tokenizer, self.batch_size = lm, tokenizer, batch_size
        self.context = _context(lm, tokenizer)
        prefix = tokenizer.bos_token_id
        prefix = tokenizer.eos_token_id if prefix is None else prefix
        if not isinstance(prefix, int):
            raise UsageError("the model's tokenizer has neither a bos_token nor an eos_token.")
        self._prefix = prefix
        self._prefix_text = str(tokenizer.decode([prefix]))

    def score(self, pairs: Sequence[Pair], report: Callable[[int, int], None]) -> list[Score]:
        """Return a score for each pair; ``report`` is told (done, total).

        Raises DataError when the model's outputs are not finite.
        """
        found: list[Score] = []
        for first in range(0, len(pairs), CHUNK):
            chunk = pairs[first : first + CHUNK]

            def told(share: float, first: int = first, count: int = len(chunk)) -> None:
                report(first + int(share * count), len(pairs))

            found += self._score_chunk(chunk, told)
        return found

    def _score_chunk(self, pairs: Sequence[Pair], report: Callable[[float], None]) -> list[Score]:
        found = [Score() for _ in pairs]
        # Answers that differ in their last token only (letters) are read off the same output.
        wanted: dict[Tokens, list[tuple[int, Tokens]]] = {}
        for number, (tokens, num_scored) in enumerate(self.encode(pairs)):
            found[number].truncated = len(tokens) > self.context + 1
            for window, count in windows(tokens, num_scored, self.context):
                wanted.setdefault(window[:-1], []).append((number, window[len(window) - count :]))
        inputs = sorted(wanted, key=lambda tokens: (-len(tokens), tokens))
        with self.lm.evaluating(), torch.no_grad():
            for first in range(0, len(inputs), self.batch_size):
                batch = inputs[first : first + self.batch_size]
                self._score_batch(batch, wanted, found)
                report((first + len(batch)) / len(inputs))
        return found

    def _score_batch(
        self,
        inputs: Sequence[Tokens],
        wanted: dict[Tokens, list[tuple[int, Tokens]]],
        found: list[Score],
    ) -> None:
        """Add what the inputs say of each continuation to its score."""
        batch = padded_batch([np.array(tokens, np.int64) for tokens in inputs], [1] * len(inputs))
        logits_BTV = self.lm.logits(batch)
        for row, tokens in enumerate(inputs):
            longest = max(len(targets) for _, targets in wanted[tokens])
            logits_NV = logits_BTV[row, len(tokens) - longest : len(tokens)]
            logp_NV = logits_NV.log_softmax(-1)
            best = logits_NV.argmax(-1).tolist()
            for number, targets in wanted[tokens]:
                target_N = torch.tensor(targets, device=logp_NV.device)
                logp_N = logp_NV[-len(targets) :].gather(1, target_N[:, None]).double()
                value = float(logp_N.sum())
                if not np.isfinite(value):
                    raise DataError("the model's outputs are not finite; its weights are damaged.")
                found[number].log_likelihood += value
                found[number].greedy &= best[-len(targets) :] == list(targets)

    def encode(self, pairs: Sequence[Pair]) -> list[tuple[list[int], int]]:
        """Return each pair's tokens and how many of the last ones are the continuation's.

        The whole is encoded at once and cut at the number of tokens that the context alone has;
        spaces at a context's end belong to the continuation. An empty context is the tokenizer's
        first token (or its end-of-text).
        """
        stems = [pair.context.rstrip() for pair in pairs]
        wholes = [pair.context + pair.continuation for pair in pairs]
        tokens_of = self._tokens(dict.fromkeys((*stems, *wholes)))
        found = []
        for pair, stem, whole in zip(pairs, stems, wholes, strict=True):
            tokens = tokens_of[whole]
            if pair.context:
                # At least one token is scored, also where the tokenizer joins it to the context.
                found.append((tokens, max(len(tokens) - len(tokens_of[stem]), 1)))
                continue
            tokens = self._encode([whole], special=False)[0]
            if tokens[0] != self._prefix:
                tokens = [self._prefix, *tokens]
            found.append((tokens, len(tokens) - 1))
        return found

    def _tokens(self, texts: dict[str, None]) -> dict[str, list[int]]:
        """Return the tokens of texts by text; one that begins with the first token has no other."""
        begun = [text for text in texts if text.startswith(self._prefix_text)]
        plain = [text for text in texts if not text.startswith(self._prefix_text)]
        return dict(zip(plain, self._encode(plain, special=True), strict=True)) | dict(
            zip(begun, self._encode(begun, special=False), strict=True)
        )

    def _encode(self, texts: list[str], *, special: bool) -> list[list[int]]:
        if not texts:
            return []
        encoded = self.tokenizer(texts, add_special_tokens=special, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids


def _context(lm: LanguageModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens the model reads at most."""
    config = getattr(lm.model, "config", None)
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    length = tokenizer.model_max_length
    return length if length < _LARGEST_CONTEXT else DEFAULT_CONTEXT


def model_folder(path: Path) -> Path:
    """Return the Hugging Face folder of a run's latest checkpoint, or the folder itself.

    Raises UsageError when there is none, DataError for a damaged checkpoint.
    """
    kind = kind_of(path) if path.is_dir() else ""
    if kind == "a run":
        run = RunDir(path)
        checkpoint = latest_checkpoint(run)
        if checkpoint is None:
            raise UsageError(f"{path} has no checkpoint yet. Let `mads train` go on until one.")
        return run.checkpoint(checkpoint.step)
    if not (path / "config.json").is_file():
        found = kind or ("a folder without config.json" if path.is_dir() else "nothing there")
        raise UsageError(
            f"{path} is no model: found {found}, expected a run or a Hugging Face model's folder."
        )
    return path


def open_scorer(folder: Path, batch_size: int) -> Scorer:
    """Load a Hugging Face folder's model and tokenizer; its own code is never run.

    Raises UsageError when it cannot be loaded.
    """
    tokenizer = load_pretrained(str(folder), "", f"the tokenizer of {folder}")
    model = ModelConfig(hf=str(folder), pretrained=True)
    # What is trained says nothing of what can be evaluated: one document fills a sequence.
    training = TrainingConfig(context=2, document_mask=False)
    return Scorer(build_model(model, training, len(tokenizer), seed=0), tokenizer, batch_size)

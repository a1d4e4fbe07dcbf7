"""The ``perplexity`` back-end: how well a causal language model predicts a document.

The score is the mean loss per token in nats, so the lowest bin holds what the model expects most.
Which bins are worth reading is the recipe's to say: the middle ones (Marion et al. 2023, arXiv
2309.04564), the lowest ones (Wenzek et al. 2020, arXiv 1911.00359), or what feedback finds.

A document is scored alone, in float32 and on one thread, so its score depends on nothing else. The
model is loaded when the first document comes, and only then is torch imported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from mads.agents.agent import Backend, QuantileBins, fingerprint, named_bins
from mads.codec import Within
from mads.config import AgentConfig
from mads.errors import UsageError
from mads.files import file_sha256
from mads.layout import RunDir
from mads.types import DocumentBatch, Scores

DIGITS = 4  # of a score, in nats: further ones differ between machines
MOST_CHARACTERS = 16  # read of a text for each token that is scored


@dataclass(frozen=True, slots=True)
class PerplexityConfig(AgentConfig):
    """``perplexity``: the loss of a causal language model, in bins of as many documents each."""

    model: str = ""  # a Hugging Face folder with its tokenizer, or a run, whose latest model it is
    quantiles: Annotated[int, Within(2, 100)] = 5  # bins of as many documents each
    categories: tuple[str, ...] = ()  # names of the bins, lowest loss first; else q1, q2, …
    max_tokens: Annotated[int, Within(2, 2**20)] = 512  # read of a document, from its beginning
    device: str = "cpu"  # or cuda, cuda:0, …


def open_perplexity(name: str, config: PerplexityConfig) -> QuantileBins:
    """Open the agent of a section; raises UsageError for one that names no model."""
    names = named_bins(name, config.categories, config.quantiles)
    folder = _model_folder(name, config.model)
    scorer = PerplexityScorer(name, folder, config.max_tokens, config.device)
    return QuantileBins(name, scorer, names)


BACKEND = Backend(PerplexityConfig, open_perplexity)


def _model_folder(name: str, model: str) -> Path:
    """Return the folder of a model, of a run the latest checkpoint's."""
    if not model:
        raise UsageError(
            f"agents.{name}.model: the back-end 'perplexity' needs a Hugging Face folder or a run."
        )
    folder = Path(model)
    latest = RunDir(folder).latest
    if latest.is_file():
        folder = latest.parent / latest.read_text(encoding="utf-8", errors="replace").strip()
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise UsageError(
            f"agents.{name}.model: {model!r} is no model: {folder} has no config.json with "
            "*.safetensors. Give a Hugging Face model's folder, or a run with a checkpoint."
        )
    return folder


class PerplexityScorer:
    """Scores documents by a model's mean loss per token, in nats."""

    def __init__(self, name: str, folder: Path, max_tokens: int, device: str) -> None:
        self.fields: tuple[str, ...] = ()
        files = (path for path in sorted(folder.iterdir()) if _counts(path))
        seals = [(path.name, file_sha256(path)) for path in files]
        self.fingerprint = fingerprint("perplexity", seals, max_tokens, DIGITS, MOST_CHARACTERS)
        self._name, self._folder = name, folder
        self._max_tokens, self._device = max_tokens, device

    def score(self, batch: DocumentBatch) -> Scores:
        """Score N documents.

        A text of less than two tokens gets the loss of a guess, the logarithm of the vocabulary.
        Raises UsageError when the model cannot be loaded.
        """
        if not len(batch):
            return Scores(np.zeros(0, np.float32), np.zeros(0, bool))
        score_N = np.array([self._model.loss(text) for text in batch.texts], np.float32)
        return Scores(score_N, np.ones(len(batch), bool))

    @cached_property
    def _model(self) -> _Model:
        return _Model(self._name, self._folder, self._max_tokens, self._device)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the model out, which each process loads for itself."""
        return {key: value for key, value in self.__dict__.items() if key != "_model"}


def _counts(path: Path) -> bool:
    """Tell whether a file of a model's folder can change a score."""
    other = ("optimizer.safetensors", "state.json", "mads.json", "generation_config.json")
    return path.suffix in (".json", ".safetensors", ".model", ".txt") and path.name not in other


class _Model:
    """A causal language model with its tokenizer, on its device."""

    def __init__(self, name: str, folder: Path, max_tokens: int, device: str) -> None:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                str(folder), trust_remote_code=False, local_files_only=True
            )
            model: Any = AutoModelForCausalLM.from_pretrained(
                str(folder),
                dtype=torch.float32,
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
            )
            self._model = model.to(device).eval()
        except (
            *(OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError),
            AssertionError,  # a torch without CUDA says so
        ) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UsageError(
                f"agents.{name}: the model in {folder} cannot be used on {device!r}: {reason}. "
                "Give a causal language model with its tokenizer, and a device that exists."
            ) from error
        self._torch = torch
        self._device = device
        limit = getattr(self._model.config, "max_position_embeddings", None) or max_tokens
        self._max_tokens = min(max_tokens, limit)
        self._guess = math.log(self._model.config.vocab_size)

    def loss(self, text: str) -> float:
        """Return the mean loss per token of a text's beginning, in nats."""
        torch = self._torch
        head = text[: MOST_CHARACTERS * self._max_tokens].encode("utf-8", "replace").decode()
        numbers = self._tokenizer(head, add_special_tokens=False, verbose=False)["input_ids"]
        tokens_T = torch.tensor(numbers[: self._max_tokens], dtype=torch.int64, device=self._device)
        if len(tokens_T) < 2:
            return round(self._guess, DIGITS)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # how a sum is split over threads shows in its last digits
        try:
            with torch.inference_mode():
                logits_TV = self._model(input_ids=tokens_T[None], use_cache=False).logits[0, :-1]
                loss = torch.nn.functional.cross_entropy(logits_TV.float(), tokens_T[1:])
        finally:
            torch.set_num_threads(threads)
        return round(float(loss), DIGITS)

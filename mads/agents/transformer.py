"""The ``transformer`` back-end: any Hugging Face sequence classifier or regressor.

    text ─ windows of characters ─▶ tokens ─ sorted by length, batches with < 5% padding ─▶ logits
                    mean over a document's windows ◀─ softmax, sigmoid or the number itself ◀─┘

A classifier takes the most probable category; with ``score`` the probability of one label is cut
into bins, as the number of a regressor is. The weights are safetensors, and no code of a model is
run. It computes in bfloat16 on a GPU and in float32 on one thread of a CPU, without compilation.

A batch changes the last digits of an answer. Answers are therefore rounded, and equal ones go to
the first category; batches follow from the shard alone, so a store is the same with any number of
workers. With other shards, or on another machine, a label may differ where its document stands
within the rounding of a border: one in a thousand of a score from 0 to 5 in bfloat16, say. Models
with attention of their own (DeBERTa-v2 has only the eager one) are right, but slower.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mads.agents.agent import Backend, FixedBins, QuantileBins, bin_names, fingerprint
from mads.agents.column import bin_problems, refuse
from mads.codec import Within
from mads.config import AgentConfig
from mads.errors import DataError, UsageError, did_you_mean
from mads.files import file_sha256, read_json
from mads.types import Agent, DocumentBatch, Floats, Ints, Labels, Scores

DIGITS = {"float32": 4, "bfloat16": 2}  # of an answer: further ones depend on the batch
FIRST_CHARACTERS = 16  # read of the only window for each token that it may have
WINDOW_CHARACTERS = 4  # of each of several windows: about as many as tokens have
MOST_PADDING = 0.05
BATCH_TOKENS = 16_384
_FILES = ("*.json", "*.safetensors", "*.model", "*.txt")


@dataclass(frozen=True, slots=True)
class TransformerConfig(AgentConfig):
    """``transformer``: a sequence classifier or regressor."""

    model: str = ""  # a folder, or an id on the Hugging Face Hub
    revision: str = ""  # of an id
    labels: dict[str, str] = dataclasses.field(default_factory=dict)  # model's label -> category
    score: str = ""  # take the probability of this label as score, for edges or quantiles
    categories: tuple[str, ...] = ()  # of bins, lowest scores first
    edges: tuple[float, ...] = ()  # inner bin edges, one fewer than categories
    quantiles: Annotated[int, Within(0, 100)] = 0  # or bins of as many documents each
    other: Literal[""] = ""  # every text has an answer
    max_length: Annotated[int, Within(2, 2**20)] = 512  # tokens of a window
    windows: Annotated[int, Within(1, 64)] = 1  # of a long document, spread over it; 1 = the start
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto takes every GPU that is there


def open_transformer(name: str, config: TransformerConfig) -> Agent | QuantileBins:
    """Open the agent of a section; the weights are loaded when the first text comes.

    Raises UsageError for a model that is not there, is none, or does not fit the section.
    """
    folder = _model_folder(name, config)
    labels = labels_of(folder)
    refuse(name, _problems(config, labels))
    user = Classifier(name, config, folder, labels)
    if len(labels) > 1 and not config.score:
        return TransformerAgent(name, user, tuple(dict.fromkeys(user.category_of)))
    names = bin_names(config.categories, config.quantiles)
    scorer = TransformerScorer(user)
    if config.quantiles:
        return QuantileBins(name, scorer, names)
    return FixedBins(name, scorer, names, config.edges, 0)


BACKEND = Backend(TransformerConfig, open_transformer)


def _problems(config: TransformerConfig, labels: tuple[str, ...]) -> list[str]:
    binned = config.edges or config.quantiles
    if len(labels) == 1 and (config.score or config.labels):
        return ["score: the model is a regressor, which has no labels"]
    if config.score and config.score not in labels:
        return [
            f"score: the model has no label {config.score!r}; {did_you_mean(config.score, labels)}"
        ]
    found = [
        f"labels: the model has no label {label!r}; {did_you_mean(label, labels)}"
        for label in config.labels
        if label not in labels
    ]
    if config.score or len(labels) == 1:
        names = bin_names(config.categories, config.quantiles)
        if not binned:
            found.append("quantiles: the model gives a score; set quantiles, or edges")
        return found + bin_problems(config, names)
    if binned or config.categories:
        found.append(
            "quantiles: the model is a classifier; `score` names the label whose probability counts"
        )
    if len({config.labels.get(label, label) for label in labels}) < 2:
        found.append("labels: all of them become one category")
    return found


def _model_folder(name: str, config: TransformerConfig) -> Path:
    """Return the folder of a model, of one on the Hub that of its copy."""
    if not config.model:
        raise UsageError(f"agents.{name}.model: give a Hugging Face folder, or an id on the Hub.")
    folder = Path(config.model)
    if not folder.is_dir():
        folder = _fetched(name, config)
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise UsageError(
            f"agents.{name}.model: {config.model!r} is no model: {folder} has no config.json with "
            "*.safetensors. Weights in other formats are not read; convert them."
        )
    return folder


def _fetched(name: str, config: TransformerConfig) -> Path:
    from huggingface_hub import snapshot_download  # transformers brings it

    try:
        return Path(
            snapshot_download(
                config.model, revision=config.revision or None, allow_patterns=list(_FILES)
            )
        )
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"agents.{name}.model: {config.model!r} is no folder and cannot be had from the Hub: "
            f"{reason}"
        ) from error


def labels_of(folder: Path) -> tuple[str, ...]:
    """Return the labels of a model in the order of its outputs; one of a regressor.

    Raises DataError for a configuration that has none.
    """
    path = folder / "config.json"
    table = read_json(path)
    found = table.get("id2label") if isinstance(table, dict) else None
    if found is None:  # transformers' own default
        return ("LABEL_0", "LABEL_1")
    if not isinstance(found, dict) or not found:
        raise DataError(f"{path}: id2label is {json.dumps(found)[:80]}, expected the labels.")
    numbered = sorted((int(key), str(label)) for key, label in found.items())
    labels = tuple(label for _, label in numbered)
    if len(set(labels)) < len(labels):
        raise DataError(f"{path}: id2label has the same label twice.")
    return labels


class Classifier:
    """A model's answers: probabilities of labels, or a regressor's number."""

    def __init__(
        self, name: str, config: TransformerConfig, folder: Path, labels: tuple[str, ...]
    ) -> None:
        self.labels = labels
        self.category_of = tuple(config.labels.get(label, label) for label in labels)
        self.config = config
        self._name, self._folder = name, folder

    @cached_property
    def fingerprint(self) -> str:
        """Return what changes with any answer; the files are read for it."""
        paths = sorted({path for pattern in _FILES for path in self._folder.glob(pattern)})
        seals = [(path.name, file_sha256(path)) for path in paths]
        keys = self.config.score, self.config.max_length, self.config.windows, self.precision
        labels = sorted(self.config.labels.items())
        numbers = DIGITS, FIRST_CHARACTERS, WINDOW_CHARACTERS, MOST_PADDING, BATCH_TOKENS
        return fingerprint("transformer", seals, keys, labels, numbers)

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """Return the GPUs that it may run on, by their places; none where it runs on the CPU."""
        if self.config.device == "cpu":
            return ()
        import torch

        count = torch.cuda.device_count()
        if self.config.device == "cuda" and not count:
            raise UsageError(f"agents.{self._name}.device: there is no GPU that torch can use.")
        return tuple(str(i) for i in range(count))

    @property
    def precision(self) -> str:
        """Return in what it computes."""
        return "bfloat16" if self.devices else "float32"

    def answers(self, texts: Sequence[str]) -> Floats:
        """Return an answer for each text and label, (N, L), rounded.

        Raises UsageError when the model cannot be loaded, DataError for NaN.
        """
        if not texts:
            return np.zeros((0, len(self.labels)))
        windows = [spread(text, self.config.max_length, self.config.windows) for text in texts]
        answer_WL = self._model.answers([window for each in windows for window in each])
        if not np.isfinite(answer_WL).all():
            raise DataError(f"agent {self._name!r}: the model in {self._folder} answers NaN.")
        ends = np.cumsum([len(each) for each in windows])
        mean_NL = np.stack([part.mean(axis=0) for part in np.split(answer_WL, ends[:-1])])
        return mean_NL.round(DIGITS[self.precision])

    @cached_property
    def _model(self) -> _Model:
        device = "cuda" if self.devices else "cpu"
        return _Model(self._name, self._folder, self.config.max_length, device, len(self.labels))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the model out, which each process loads for itself."""
        return {key: value for key, value in self.__dict__.items() if key != "_model"}


class _Asking:
    """What asks a classifier; it needs the text alone."""

    def __init__(self, user: Classifier) -> None:
        self.fields: tuple[str, ...] = ()
        self._user = user

    @property
    def fingerprint(self) -> str:
        """Return what changes with any answer."""
        return self._user.fingerprint

    @property
    def devices(self) -> tuple[str, ...]:
        """Return the GPUs that it may run on."""
        return self._user.devices


class TransformerAgent(_Asking):
    """Takes the most probable category, with its probability as score."""

    def __init__(self, name: str, user: Classifier, categories: tuple[str, ...]) -> None:
        super().__init__(user)
        self.name, self.categories = name, categories
        place = {category: i for i, category in enumerate(categories)}
        self._category_L = np.array([place[category] for category in user.category_of])

    def label(self, batch: DocumentBatch) -> Labels:
        """Label N documents; labels that become one category add up."""
        answer_NL = self._user.answers(batch.texts)
        prob_CN = np.zeros((len(self.categories), len(batch)))
        np.add.at(prob_CN, self._category_L, answer_NL.T)
        category_N = prob_CN.argmax(axis=0).astype(np.uint16)
        return Labels(category_N, prob_CN.max(axis=0, initial=0).astype(np.float32))


class TransformerScorer(_Asking):
    """A regressor's number, or the probability of a label."""

    def __init__(self, user: Classifier) -> None:
        super().__init__(user)
        self._column = user.labels.index(user.config.score) if user.config.score else 0

    def score(self, batch: DocumentBatch) -> Scores:
        """Score N documents."""
        score_N = self._user.answers(batch.texts)[:, self._column].astype(np.float32)
        return Scores(score_N, np.ones(len(batch), bool))


def spread(text: str, max_length: int, most: int) -> list[str]:
    """Return the windows of a text: its beginning, or up to ``most`` spread from end to end.

    >>> spread("0123456789" * 4, 4, 2)
    ['0123456789012345', '4567890123456789']
    """
    size = WINDOW_CHARACTERS * max_length
    if most == 1 or len(text) <= size:
        return [text[: FIRST_CHARACTERS * max_length]]
    count = min(most, -(-len(text) // size))
    last = len(text) - size
    return [text[start : start + size] for start in (last * i // (count - 1) for i in range(count))]


def padded_batches(length_W: Ints, most_tokens: int) -> Iterator[Ints]:
    """Yield places of windows of similar lengths, longest first, with less than 5% padding."""
    order_W = np.argsort(-length_W, kind="stable")
    begin, held = 0, 0
    for end, place in enumerate(order_W):
        full = (end - begin + 1) * int(length_W[order_W[begin]])
        held += int(length_W[place])
        if end > begin and (full > most_tokens or full - held >= MOST_PADDING * full):
            yield order_W[begin:end]
            begin, held = end, int(length_W[place])
    if len(order_W):
        yield order_W[begin:]


class _Model:
    """A sequence classifier with its tokenizer, on its device."""

    def __init__(
        self, name: str, folder: Path, max_length: int, device: str, num_labels: int
    ) -> None:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                str(folder), trust_remote_code=False, local_files_only=True
            )
            model, told = AutoModelForSequenceClassification.from_pretrained(
                str(folder),
                dtype=torch.float32 if device == "cpu" else torch.bfloat16,
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
            if told["missing_keys"]:
                lacking = ", ".join(sorted(told["missing_keys"])[:3])
                raise ValueError(f"it has no weights for {lacking}: is it a classifier?")
            self._model: Any = model.to(device).eval()
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UsageError(
                f"agents.{name}: the model in {folder} cannot be used: {reason} Give a sequence "
                "classifier with its tokenizer."
            ) from error
        self._torch, self._device = torch, device
        limit = getattr(self._model.config, "max_position_embeddings", None) or max_length
        self._max_length = min(max_length, limit)
        many = self._model.config.problem_type == "multi_label_classification"
        self._kind = "number" if num_labels == 1 else "sigmoid" if many else "softmax"

    def answers(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return an answer for each of W windows and each label."""
        plain = [text.encode("utf-8", "replace").decode() for text in texts]
        encoded = self._tokenizer(
            plain, truncation=True, max_length=self._max_length, verbose=False
        )
        length_W = np.array([len(tokens) for tokens in encoded["input_ids"]])
        answer_WL = np.zeros((len(texts), self._model.config.num_labels))
        threads = self._torch.get_num_threads()
        self._torch.set_num_threads(1)  # how a sum is split over threads shows in its last digits
        try:
            for place_B in padded_batches(length_W, BATCH_TOKENS):
                answer_WL[place_B] = self._forward(encoded, place_B)
        finally:
            self._torch.set_num_threads(threads)
        return answer_WL

    def _forward(self, encoded: Mapping[str, Any], place_B: Ints) -> NDArray[np.float64]:
        chosen = {key: [values[i] for i in place_B] for key, values in encoded.items()}
        padded = self._tokenizer.pad(chosen, padding="longest", return_tensors="pt")
        with self._torch.inference_mode():
            logits_BL = self._model(**padded.to(self._device)).logits.double()
            if self._kind == "softmax":
                logits_BL = logits_BL.softmax(-1)
            elif self._kind == "sigmoid":
                logits_BL = logits_BL.sigmoid()
        found: NDArray[np.float64] = logits_BL.cpu().numpy()
        return found

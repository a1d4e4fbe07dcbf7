"""Reference and evaluation tasks: items of context and continuation, loss on the latter only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mads.config import TaskConfig
from mads.errors import DataError, UsageError
from mads.seeds import derive, shuffled
from mads.types import ReferenceExample
from mads.units import shorten

Item = Mapping[str, Any]


def _text(item: Item, key: str) -> str:
    """Return a field that must be a text; raises KeyError and TypeError."""
    return as_text(item[key], key)


def as_text(value: object, what: str) -> str:
    """Return a value that must be a text; raises TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"{what} holds {shorten(value)}, expected a text")
    return value


def _cloze(item: Item) -> ReferenceExample:
    return ReferenceExample(_text(item, "context"), _text(item, "continuation"))


def _plain(item: Item) -> ReferenceExample:
    """Text without a question: all of it counts."""
    return ReferenceExample("", _text(item, "text"))


def _jeopardy(item: Item) -> ReferenceExample:
    context = _text(item, "context").strip() + "\nAnswer:"
    return ReferenceExample(context, " " + _text(item, "continuation"))


def _lambada(item: Item) -> ReferenceExample:
    if "until_last" in item:
        return ReferenceExample(_text(item, "until_last").rstrip(), " " + _text(item, "last_word"))
    context, _, word = _text(item, "text").rstrip().rpartition(" ")
    return ReferenceExample(context, " " + word)


def _squad(item: Item) -> ReferenceExample:
    answers = item["answers"]
    first = answers["text"][0] if isinstance(answers, dict) else answers[0]["text"]
    context = f"{_text(item, 'context')}\nQuestion: {_text(item, 'question').strip()}\nAnswer:"
    return ReferenceExample(context, " " + as_text(first, "answers"))


def _choices(item: Item) -> ReferenceExample:
    """Multiple choice: the loss of the right answer."""
    if "gold" in item:
        if item["gold"] < 0:
            raise ValueError(f"gold is {item['gold']}")
        right = as_text(item["choices"][item["gold"]], "choices")
        return ReferenceExample(_text(item, "query").rstrip(), " " + right)
    question = _text(item, "question" if "question" in item else "question_stem")
    choices = item["choices"]
    right = as_text(choices["text"][list(choices["label"]).index(item["answerKey"])], "choices")
    return ReferenceExample(f"Question: {question}\nAnswer:", " " + right)


FORMATS: dict[str, Callable[[Item], ReferenceExample]] = {
    "cloze": _cloze,
    "lambada": _lambada,
    "squad": _squad,
    "jeopardy": _jeopardy,
    "choices": _choices,
    "text": _plain,
}


def load_examples(name: str, config: TaskConfig, seed: int) -> list[ReferenceExample]:
    """Return a seeded subset of a task's items; a bad item is a DataError that names its row."""
    path = _local_file(name, config)
    read = FORMATS[config.format]
    examples = []
    for row, item in enumerate(read_rows(path)):
        try:
            example = read(item)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"task {name!r}: {path} row {row} is not in the format {config.format!r} "
                f"({type(error).__name__}: {error}); found the keys {sorted(item)}."
            ) from error
        if example.continuation.strip():
            examples.append(example)
    if not examples:
        raise DataError(f"task {name!r}: {path} holds no item with a continuation.")
    order = shuffled(np.arange(len(examples), dtype=np.uint64), derive(seed, "task", name))
    return [examples[i] for i in order[: config.num_examples or None].tolist()]


def _local_file(name: str, config: TaskConfig) -> Path:
    if not config.path:
        raise UsageError(f"task {name!r} has no path. Give a file or a Hugging Face data set id.")
    path = Path(config.path)
    if path.is_file():
        return path
    if path.is_dir():
        raise UsageError(f"task {name!r}: {config.path} is a folder. Give the file with its items.")
    looks_like_id = len(path.parts) == 2 and not path.is_absolute() and not path.suffix
    if not looks_like_id:
        raise UsageError(f"task {name!r}: {config.path} does not exist.")
    return _fetch(name, config)


def _fetch(name: str, config: TaskConfig) -> Path:
    """Fetch a Hugging Face data set's split and return its one file."""
    patterns = [f"*{config.split}*.{suffix}" for suffix in ("parquet", "jsonl", "jsonl.gz")]
    try:
        files = fetch_files(config.path, patterns)
    except UsageError as error:
        raise UsageError(f"task {name!r}: {error}") from error
    if len(files) != 1:
        raise UsageError(
            f"task {name!r}: the data set {config.path!r} has {len(files)} files for the split "
            f"{config.split!r}, expected 1. Download one and give its path."
        )
    return files[0]


def fetch_files(data_set: str, patterns: Sequence[str], revision: str | None = None) -> list[Path]:
    """Fetch the files of a Hugging Face data set that fit; raises UsageError when it cannot."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            data_set, repo_type="dataset", revision=revision, allow_patterns=list(patterns)
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"the data set {data_set!r} cannot be fetched: {reason}") from error
    return sorted(p for pattern in patterns for p in Path(folder).rglob(pattern))


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file or of JSON lines; one that is no object is empty."""
    try:
        if path.suffix == ".parquet":
            yield from pq.ParquetFile(path).read().to_pylist()
            return
        with pa.input_stream(str(path), compression="detect") as lines:
            for line in lines.read().splitlines():
                if line.strip():
                    item = json.loads(line)
                    yield item if isinstance(item, dict) else {}
    except RecursionError as error:
        raise DataError(f"{path} cannot be read: its JSON is nested too deeply.") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error}") from error

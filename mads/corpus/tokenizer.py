"""The tokenizer of a store: any Hugging Face tokenizer, or a byte-level BPE trained here.

Either way the store keeps its own copy as a Hugging Face folder, so later stages need nothing
from outside; ``mads.json`` in it holds the sha256 of each of its files. Documents are encoded
without special tokens and end with the end-of-text token; the same characters inside a text are
text.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from traceback import format_exception_only
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from mads.config import TokenizerConfig
from mads.errors import DataError, UsageError
from mads.files import (
    PARTIAL,
    file_sha256,
    publish,
    read_json,
    read_sealed_json,
    unreadable,
    write_sealed_json,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SEALS = "mads.json"
REMEDY = "Delete the folder and run the same `mads annotate` again; it makes it anew."
END_OF_TEXT = "<|endoftext|>"
# Training takes the square of a word's length in time: 4 MB without a space take hours.
_LONG_WORD = re.compile(r"(\s{256})\s+|(\S{256})(?=\S)")


@dataclass(frozen=True, slots=True)
class StoreTokenizer:
    """The tokenizer of a store; ``fingerprint`` is the sha256 of its tokenizer.json."""

    tokenizer: Tokenizer
    end_of_text: int
    vocab_size: int
    fingerprint: str

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's tokens, the end-of-text token last."""
        encoded = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [[*item.ids, self.end_of_text] for item in encoded]

    def encode_plain(self, text: str) -> list[int]:
        """Return a text's tokens without the end-of-text token."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def open_tokenizer(folder: Path) -> StoreTokenizer:
    """Open a store's tokenizer; raises DataError when it is damaged."""
    path = folder / "tokenizer.json"
    if (folder / SEALS).is_file():
        check_tokenizer(folder)
    try:
        raw = path.read_bytes()
        tokenizer = Tokenizer.from_buffer(raw)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} holds no readable tokenizer: {error}") from error
    config = read_json(folder / "tokenizer_config.json", REMEDY)
    if not isinstance(config, dict):
        raise DataError(f"{folder} holds no readable tokenizer: its configuration is no object.")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # as text
    name = config.get("eos_token")
    name = name.get("content") if isinstance(name, dict) else name
    end_of_text = tokenizer.token_to_id(name) if name else None
    if end_of_text is None:
        raise DataError(f"{folder}: the tokenizer has no end-of-text token (eos_token).")
    return StoreTokenizer(
        tokenizer,
        end_of_text,
        max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1,  # numbers may have gaps
        hashlib.sha256(raw).hexdigest(),
    )


def check_tokenizer(folder: Path) -> None:
    """Raise DataError, with both values, unless a folder holds the files that were written."""
    for name, expected in read_sealed_json(folder / SEALS, REMEDY).items():
        path = folder / name
        try:
            found = file_sha256(path)
        except OSError as error:
            raise unreadable(path, error, REMEDY) from error
        if found != expected:
            raise DataError(
                f"{path} was changed: its sha256 is {found[:16]}, expected {expected[:16]}. "
                f"{REMEDY}"
            )


def _empty_partial(folder: Path) -> Path:
    """Return the folder to write into, without what a killed call has left there."""
    partial = folder.with_name(folder.name + PARTIAL)
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    return partial


def _publish(partial: Path, folder: Path) -> None:
    """Seal a folder and give it its name."""
    files = sorted(path for path in partial.rglob("*") if path.is_file())
    names = {path.relative_to(partial).as_posix(): path for path in files}
    seals = {name: file_sha256(path) for name, path in names.items() if name != SEALS}
    write_sealed_json(partial / SEALS, seals)
    publish(partial, folder)


def fetch_tokenizer(config: TokenizerConfig, folder: Path) -> None:
    """Copy a Hugging Face tokenizer by id or path into a folder.

    Raises UsageError when it cannot be loaded or has no fast (tokenizer.json) form.
    """
    tokenizer = load_pretrained(config.name, config.revision, f"tokenizer.name: {config.name!r}")
    if not tokenizer.is_fast or tokenizer.eos_token is None:
        raise UsageError(
            f"tokenizer.name: {config.name!r} lacks a tokenizer.json or an eos_token; "
            "both are needed."
        )
    partial = _empty_partial(folder)
    tokenizer.save_pretrained(str(partial))
    _publish(partial, folder)


def load_pretrained(name: str, revision: str, what: str) -> PreTrainedTokenizerBase:
    """Load a Hugging Face tokenizer by id or path; its own code is never run.

    Raises UsageError, in which it is called ``what``, when it cannot be loaded.
    """
    from transformers import AutoTokenizer  # slow to import

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name, revision=revision or None, use_fast=True, trust_remote_code=False
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError) as error:
        reason = format_exception_only(error)[-1].splitlines()[0]
        raise UsageError(f"{what} cannot be loaded: {reason}") from error
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int, folder: Path) -> None:
    """Train a byte-level BPE and write it as a Hugging Face folder.

    Words (and gaps) of more than 256 characters are cut for the training, not for the encoding.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    cut = (_LONG_WORD.sub(_cut, text) for text in texts)
    tokenizer.train_from_iterator(cut, trainer)
    partial = _empty_partial(folder)
    tokenizer.save(str(partial / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000_000,
    }
    (partial / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    _publish(partial, folder)


def _cut(match: re.Match[str]) -> str:
    return match[1] or f"{match[2]} "

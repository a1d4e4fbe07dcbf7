"""Tokenizers: trained ones are deterministic and lossless, foreign ones are checked."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer

from mads.config import TokenizerConfig
from mads.corpus import tokenizer as module
from mads.corpus.tokenizer import (
    END_OF_TEXT,
    StoreTokenizer,
    check_tokenizer,
    fetch_tokenizer,
    open_tokenizer,
    train_tokenizer,
)
from mads.errors import DataError, UsageError

TEXTS = ["the cat sat on the mat", "the dog sat on the log", "naïve café 12345", "def f(x):\n\t"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "tokenizer"
    train_tokenizer(TEXTS * 5, 280, path)
    return path


@pytest.fixture(scope="module")
def trained(folder: Path) -> StoreTokenizer:
    return open_tokenizer(folder)


def foreign(folder: Path, eos: str | None, vocab: dict[str, int] | None = None) -> Path:
    """Write a word-level tokenizer as others would."""
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel(vocab or {"[UNK]": 0, "a": 1, "</s>": 2}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    if eos is not None:
        config["eos_token"] = eos
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_training_is_deterministic(folder: Path, tmp_path: Path) -> None:
    train_tokenizer(iter(TEXTS * 5), 280, tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_the_vocabulary_has_the_size_asked_for(trained: StoreTokenizer) -> None:
    assert trained.vocab_size == 280
    assert trained.end_of_text == trained.tokenizer.token_to_id(END_OF_TEXT) == 0
    assert len(trained.encode_plain("the the the")) < len(" the the the")


def test_training_on_nothing_gives_the_bytes(tmp_path: Path) -> None:
    train_tokenizer([], 300, tmp_path / "tokenizer")
    tokenizer = open_tokenizer(tmp_path / "tokenizer")
    assert tokenizer.vocab_size == 257
    assert tokenizer.tokenizer.decode(tokenizer.encode_plain("é")) == "é"


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("  two  spaces \r\n\ttab\x00nul 007 ")
@example(f"a{END_OF_TEXT}b")
def test_every_text_survives_the_round_trip(trained: StoreTokenizer, text: str) -> None:
    (tokens,) = trained.encode([text])
    assert tokens == [*trained.encode_plain(text), trained.end_of_text]
    assert trained.end_of_text not in tokens[:-1]  # whatever the text says
    assert trained.tokenizer.decode(tokens[:-1], skip_special_tokens=False) == text


def test_long_words_and_gaps_are_cut_for_the_training() -> None:
    """Training on one word of 4 MB took hours."""
    texts = ["a" * 10_000, "\n" * 10_000, "short " * 100, "é" * 257 + " " * 300 + "x", ""]
    cut = [module._LONG_WORD.sub(module._cut, text) for text in texts]
    assert max(len(part) for text in cut for part in re.findall(r"\S+|\s+", text)) == 256
    assert cut[2] == texts[2]
    assert [text.count("a") for text in cut[:1]] == [10_000]
    assert cut[3] == "é" * 256 + " é" + " " * 256 + "x"


def test_a_batch_is_its_texts(trained: StoreTokenizer) -> None:
    assert trained.encode([]) == []
    assert trained.encode(TEXTS) == [trained.encode([text])[0] for text in TEXTS]


def test_the_folder_opens_with_transformers(folder: Path, trained: StoreTokenizer) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    assert tokenizer.eos_token == END_OF_TEXT
    assert tokenizer.eos_token_id == trained.end_of_text
    assert len(tokenizer) == trained.vocab_size
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == trained.encode_plain(text)
        assert tokenizer.decode(ids) == text


def test_a_foreign_tokenizer_is_copied_without_its_truncation(tmp_path: Path) -> None:
    source = foreign(tmp_path / "source", "</s>")
    fetch_tokenizer(TokenizerConfig(name=str(source)), tmp_path / "copy")
    tokenizer = open_tokenizer(tmp_path / "copy")
    assert tokenizer.encode(["a a b a"]) == [[1, 1, 0, 1, 2]]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "source"]


def test_numbers_with_gaps_count_to_the_largest(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "gaps", "</s>", {"[UNK]": 0, "a": 7, "</s>": 99})
    assert open_tokenizer(folder).vocab_size == 100


def test_a_foreign_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    source = foreign(tmp_path / "source", None)
    with pytest.raises(UsageError, match=r"source' lacks a tokenizer\.json or an eos_token; both"):
        fetch_tokenizer(TokenizerConfig(name=str(source)), tmp_path / "copy")
    for eos in (None, "not in the vocabulary"):
        folder = foreign(tmp_path / f"eos {eos}", eos)
        with pytest.raises(DataError, match=r"has no end-of-text token \(eos_token\)"):
            open_tokenizer(folder)


@pytest.mark.parametrize("content", [None, b"{}", b"[]", b"\xff"])
def test_a_tokenizer_that_cannot_be_loaded_is_refused(
    tmp_path: Path, content: bytes | None
) -> None:
    source = tmp_path / "source"
    if content is not None:
        foreign(source, "</s>")
        (source / "tokenizer.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"tokenizer\.name: '.*/source' cannot be loaded: \w+: "):
        fetch_tokenizer(TokenizerConfig(name=str(source)), tmp_path / "copy")
    with pytest.raises(DataError, match=r"source holds no readable tokenizer: "):
        open_tokenizer(source)
    assert not (tmp_path / "copy").exists()


def test_each_file_of_a_store_is_known_by_its_sha256(folder: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copytree(folder, tmp_path / name)
        path = tmp_path / name / name
        path.write_bytes(path.read_bytes() + b"\n")  # still the same JSON
        message = rf"{name} was changed: its sha256 is [0-9a-f]{{16}}, expected [0-9a-f]{{16}}\. "
        with pytest.raises(DataError, match=message + "Delete the folder"):
            open_tokenizer(tmp_path / name)
        path.unlink()
        with pytest.raises(DataError, match=rf"{name} cannot be read: No such file"):
            check_tokenizer(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "its configuration is no object"),
        ("[" * 100_000, "tokenizer_config.json cannot be read as JSON"),
        ("{}", "has no end-of-text token"),
    ],
)
def test_a_folder_without_seals_is_read_with_care(
    folder: Path, tmp_path: Path, text: str, message: str
) -> None:
    shutil.copytree(folder, tmp_path / "old")
    (tmp_path / "old" / "mads.json").unlink()
    assert open_tokenizer(tmp_path / "old").fingerprint == open_tokenizer(folder).fingerprint
    (tmp_path / "old" / "tokenizer_config.json").write_text(text)
    with pytest.raises(DataError, match=message):
        open_tokenizer(tmp_path / "old")
    with pytest.raises(DataError, match=r"mads\.json does not exist\. Delete the folder"):
        check_tokenizer(tmp_path / "old")

"""Models of arrays are trusted only by their cards."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from agents.arrays import toy_clusters

from mads.agents.array_model import (
    Golden,
    check_golden,
    check_out,
    find_arrays,
    read_card,
    write_card,
)
from mads.agents.cluster import ClusterCard, open_model
from mads.errors import DataError, UsageError
from mads.files import file_sha256, read_sealed_json, write_sealed_json


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    for path in (toy_clusters(), toy_clusters().with_suffix(".json")):
        shutil.copy(path, tmp_path / path.name)
    return tmp_path / "toy.safetensors"


def test_a_copy_is_as_good(model: Path) -> None:
    assert open_model(model)[0] == open_model(toy_clusters())[0]


def test_every_changed_byte_of_a_card_is_refused_or_without_effect(model: Path) -> None:
    card = model.with_suffix(".json")
    whole = card.read_bytes()
    expected = read_card(model, ClusterCard, "cluster")
    for at in range(0, len(whole), 37):
        card.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            found = read_card(model, ClusterCard, "cluster")
        except DataError as error:
            assert "toy.json" in str(error)  # noqa: PT017 - either is right
        else:
            assert found == expected


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b""])
def test_another_file_is_refused_before_it_is_read(model: Path, damage: object) -> None:
    assert callable(damage)
    model.write_bytes(damage(model.read_bytes()))
    with pytest.raises(DataError, match=r"found sha256 [0-9a-f]{64}, expected [0-9a-f]{64}"):
        open_model(model)


def test_a_file_that_is_no_safetensors(model: Path) -> None:
    model.write_bytes(b"This is a test.")
    write_card(
        model, replace(read_card(model, ClusterCard, "cluster"), model_sha256=file_sha256(model))
    )
    with pytest.raises(DataError, match=r"toy\.safetensors cannot be read as safetensors: "):
        open_model(model)


def test_arrays_of_something_else(model: Path) -> None:
    from safetensors.numpy import load_file, save_file

    arrays = load_file(model)
    save_file({**arrays, "idf_B": arrays["idf_B"].astype("float64")}, model)
    write_card(
        model, replace(read_card(model, ClusterCard, "cluster"), model_sha256=file_sha256(model))
    )
    with pytest.raises(DataError, match=r"toy\.safetensors holds .*, expected "):
        open_model(model)


def test_a_model_without_a_card(model: Path) -> None:
    model.with_suffix(".json").unlink()
    with pytest.raises(DataError, match=r"toy\.safetensors has no card\. Put .*toy\.json back"):
        open_model(model)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("backend", "target", "backend is 'target', expected 'cluster'. Fit it again with"),
        ("text_version", 99, "text_version is 99, expected 1"),
        ("golden", [{"text": 5, "category": "a", "score": 1.0}], "golden[0].text: found 5"),
        ("sizes", ["many"], "is not a card of a cluster model: sizes[0]: found 'many'"),
        ("colour", "red", "colour: unknown key"),
    ],
)
def test_a_card_of_something_else(model: Path, key: str, value: object, message: str) -> None:
    card = model.with_suffix(".json")
    write_sealed_json(card, {**read_sealed_json(card, ""), key: value})
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        open_model(model)
    assert "toy.json" in str(caught.value)


def test_a_card_that_was_edited(model: Path) -> None:
    card = model.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), "seed": 5}))
    with pytest.raises(DataError, match=r"toy\.json was changed: its sha256 says"):
        open_model(model)


def test_other_answers_than_the_golden_ones() -> None:
    expected = [Golden("a text", "c0001", 0.5)]
    check_golden(Path("m"), expected, [Golden("a text", "c0001", 0.5 + 1e-7)])
    for found in (Golden("a text", "c0002", 0.5), Golden("a text", "c0001", 0.51)):
        with pytest.raises(DataError, match=r"m does not say .* golden text 'a text' found c000"):
            check_golden(Path("m"), expected, [found])


def test_a_golden_text_with_another_answer(model: Path) -> None:
    card = read_card(model, ClusterCard, "cluster")
    write_card(model, replace(card, golden=(Golden("atom spin", "c0001", 0.123),)))
    with pytest.raises(DataError, match="for the golden text 'atom spin' found c000"):
        open_model(model)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "agents.topics.model: give a model by its path; `mads fit cluster` writes one."),
        ("m.bin", "agents.topics.model: found 'm.bin', expected a file that ends in .safetensors"),
        (
            "m.safetensors",
            "agents.topics.model: 'm.safetensors' does not exist; `mads fit cluster`",
        ),
    ],
)
def test_models_that_are_not_there(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        find_arrays("topics", "cluster", name)


def test_the_name_of_a_new_model() -> None:
    check_out(Path("m.safetensors"))
    with pytest.raises(UsageError, match=r"--out: found 'm.bin', expected .* ends in .safetensors"):
        check_out(Path("m.bin"))

"""A toy fastText model with its card, and a tiny language model, trained in a moment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fasttext
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from mads.agents.fasttext_model import TEXT_VERSION, clean_text

CATS = "the cat purrs and drinks milk"
DOGS = "a dog barks and fetches sticks"


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    lines = folder / "lines.txt"
    # Dogs come first and more often, so fastText's own order is not the card's.
    lines.write_text(f"__label__d {DOGS}\n" * 60 + f"__label__c {CATS}\n" * 40)
    model = fasttext.train_supervised(str(lines), dim=4, epoch=5, lr=0.5, thread=1, verbose=0)
    model.save_model(str(folder / "toy.bin"))
    return folder / "toy.bin"


@pytest.fixture
def toy(toy_model: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes model and card, with changed or (None) missing keys."""

    def write(**changes: Any) -> Path:
        model = tmp_path / "toy.bin"
        model.write_bytes(toy_model.read_bytes())
        raw = fasttext.load_model(str(toy_model))
        labels, probs = raw.predict([clean_text(CATS)], k=-1)
        found = dict(zip(labels[0], probs[0], strict=True))
        card = {
            "kind": "classifier",
            "categories": ["cat", "dog"],
            "labels": ["__label__c", "__label__d"],
            "empty_category": "dog",
            "text_version": TEXT_VERSION,
            "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
            "golden": [
                {
                    "text": CATS,
                    "probabilities": [float(found["__label__c"]), float(found["__label__d"])],
                }
            ],
        } | changes
        card = {key: value for key, value in card.items() if value is not None}
        model.with_suffix(".json").write_text(json.dumps(card))
        return model

    return write


LINES = [
    "the small cat sat on the warm mat",
    "a red fox ran over the green hill",
    "my old dog lay by the open door",
    "the tall man sang of the deep sea",
]


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder: a language model of one layer that knows four lines by heart."""
    folder = tmp_path_factory.mktemp("lm")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        LINES * 9, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe)  # type: ignore[no-untyped-call]
    tokenizer.save_pretrained(str(folder))
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(shape)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(60):
            for line in LINES:
                tokens = torch.tensor([tokenizer(f"{line}. {line}")["input_ids"]])
                model(input_ids=tokens, labels=tokens).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def make_bert(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes a BERT of two layers with random weights and these labels."""

    def write(*labels: str, **changes: Any) -> Path:
        folder = tmp_path_factory.mktemp("bert")
        words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        words.normalizer = normalizers.BertNormalizer()
        words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special)
        words.train_from_iterator(LINES * 9, trainer)
        words.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=words,
            pad_token="[PAD]",
            unk_token="[UNK]",
            cls_token="[CLS]",
            sep_token="[SEP]",
        ).save_pretrained(str(folder))
        shape = BertConfig(
            vocab_size=words.get_vocab_size(),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=64,
            initializer_range=0.5,
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            **changes,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            BertForSequenceClassification(shape).save_pretrained(str(folder))
        return folder

    return write

"""A language model's loss as an agent: low for text that it knows, high for its words shuffled."""

from __future__ import annotations

import math
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from agents.conftest import LINES
from toys import MakeRecipe, write_jsonl
from transformers import AutoModelForCausalLM, AutoTokenizer

from mads.agents import open_agent
from mads.agents.agent import QuantileBins
from mads.agents.perplexity import PerplexityConfig
from mads.annotate.annotate import annotate
from mads.errors import UsageError
from mads.store.store import Store
from mads.types import DocumentBatch, Status


def scorer(folder: Path, max_tokens: int = 512) -> QuantileBins:
    found = open_agent("surprise", PerplexityConfig("perplexity", str(folder), 3, (), max_tokens))
    assert isinstance(found, QuantileBins)
    return found


def scores(agent: QuantileBins, texts: list[str]) -> list[float]:
    batch = DocumentBatch(texts, [Status.OK] * len(texts), [0] * len(texts), {})
    found: list[float] = agent.score(batch).score_N.tolist()
    return found


def shuffled(line: str, seed: int) -> str:
    return " ".join(np.random.default_rng(seed).permutation(line.split()))


def test_shuffled_words_score_worse_than_the_text(tiny_lm: Path) -> None:
    agent = scorer(tiny_lm)
    real = scores(agent, LINES)
    for seed in range(3):
        mixed = scores(agent, [shuffled(line, seed) for line in LINES])
        assert all(low < high - 0.5 for low, high in zip(real, mixed, strict=True))
    assert scores(agent, ["zq xv jj kwpt"])[0] > max(real)


def test_the_score_is_the_mean_loss_of_the_tokens(tiny_lm: Path) -> None:
    """Token by token: minus the log of what the model gives to the one that comes."""
    tokenizer = AutoTokenizer.from_pretrained(str(tiny_lm))
    model = AutoModelForCausalLM.from_pretrained(str(tiny_lm))
    text = f"{LINES[0]}. {LINES[2]}"
    tokens = tokenizer(text)["input_ids"]
    for most in (512, 5):
        own, losses = tokens[:most], []
        with torch.no_grad():
            for at in range(1, len(own)):
                logits_V = model(input_ids=torch.tensor([own[:at]])).logits[0, -1]
                losses.append(-float(torch.log_softmax(logits_V, 0)[own[at]]))
        expected = sum(losses) / len(losses)
        assert scores(scorer(tiny_lm, most), [text])[0] == pytest.approx(expected, abs=1e-4)


def test_a_long_text_is_read_from_its_beginning(tiny_lm: Path) -> None:
    """The model has 64 places, whatever max_tokens says."""
    long = ". ".join(LINES * 9)
    assert scores(scorer(tiny_lm), [long]) == scores(scorer(tiny_lm, 64), [long + " never read"])


def test_a_text_without_two_tokens_has_the_loss_of_a_guess(tiny_lm: Path) -> None:
    size = AutoModelForCausalLM.from_pretrained(str(tiny_lm)).config.vocab_size
    assert scores(scorer(tiny_lm), ["", "a"]) == pytest.approx([math.log(size)] * 2, abs=1e-4)


def test_scores_do_not_depend_on_threads(tiny_lm: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = scores(scorer(tiny_lm), LINES)
        torch.set_num_threads(4)
        assert scores(scorer(tiny_lm), LINES) == one
        assert torch.get_num_threads() == 4  # it is put back
    finally:
        torch.set_num_threads(before)


def test_memories_are_the_same_whoever_labels(
    tiny_lm: Path, tmp_path: Path, toy_recipe: MakeRecipe
) -> None:
    """In this process, and in another one: it takes its time to import torch."""
    files = []
    for number in range(2):
        texts = [shuffled(line, number) if i % 2 else line for i, line in enumerate(LINES * 3)]
        files.append(write_jsonl(tmp_path / f"{number}.jsonl", [{"text": t} for t in texts]))
    agents = {"surprise": {"backend": "perplexity", "model": str(tiny_lm), "quantiles": 2}}
    stores = []
    for executor in ("inline", "processes"):
        corpus = {"executor": executor, "workers": 1, "shard_bytes": 1}
        recipe = toy_recipe(agents=agents, corpus=corpus)
        annotate(files, tmp_path / executor, recipe, lambda *_: None)
        stores.append(Store(tmp_path / executor))
    for shard in range(2):
        one, two = (store.memory("surprise", shard) for store in stores)
        assert one.score_N.tobytes() == two.score_N.tobytes()
        assert one.category_N.tolist() == two.category_N.tolist()
    # Of the first file, even rows are lines as they are: all in the bin of low loss.
    assert set(stores[0].memory("surprise", 0).category_N[::2].tolist()) == {0}


def test_an_agent_that_has_scored_can_be_sent_to_another_process(tiny_lm: Path) -> None:
    agent = scorer(tiny_lm)
    expected = scores(agent, LINES)
    assert scores(pickle.loads(pickle.dumps(agent)), LINES) == expected


def test_the_fingerprint_is_the_models_and_the_settings(tiny_lm: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_lm, tmp_path / "copy"))
    one = scorer(tiny_lm).fingerprint
    assert scorer(copy).fingerprint == one  # where it lies does not count
    assert scorer(tiny_lm, 100).fingerprint != one
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert scorer(copy).fingerprint != one


def test_a_run_stands_for_its_latest_checkpoint(tiny_lm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints" / "step-00000010"
    shutil.copytree(tiny_lm, folder)
    (folder.parent / "latest").write_text("step-00000010\n")
    (folder / "optimizer.safetensors").write_bytes(b"")
    assert scorer(tmp_path / "run").fingerprint == scorer(tiny_lm).fingerprint


def test_sections_that_name_no_model(tiny_lm: Path, tmp_path: Path) -> None:
    for section, said in (
        (PerplexityConfig("perplexity"), "agents.x.model: the back-end 'perplexity' needs a Hugg"),
        (
            PerplexityConfig("perplexity", str(tmp_path)),
            "is no model: .* has no config.json with .* Give a Hugging Face model's folder",
        ),
        (
            PerplexityConfig("perplexity", str(tiny_lm), 3, ("low", "high")),
            "agents.x.categories: found 2, but quantiles makes 3 bins; give as many names, or non",
        ),
    ):
        with pytest.raises(UsageError, match=said):
            open_agent("x", section)


@pytest.mark.parametrize("damage", ["weights", "tokenizer", "device"])
def test_a_model_that_cannot_be_used_is_one_message(
    tiny_lm: Path, tmp_path: Path, damage: str
) -> None:
    copy = Path(shutil.copytree(tiny_lm, tmp_path / "copy"))
    if damage == "weights":
        weights = copy / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "tokenizer":
        (copy / "tokenizer.json").write_text("{")
    device = "cuda:77" if damage == "device" else "cpu"
    section = PerplexityConfig("perplexity", str(copy), device=device)
    agent = open_agent("x", section)
    assert isinstance(agent, QuantileBins)
    with pytest.raises(UsageError, match=r"agents\.x: the model in .* cannot be used on .* exists"):
        scores(agent, ["a text of some words"])


def test_opening_it_does_not_import_torch(tiny_lm: Path) -> None:
    code = (
        "import sys; from mads.agents import open_agent; "
        "from mads.agents.perplexity import PerplexityConfig; "
        f"open_agent('x', PerplexityConfig('perplexity', {str(tiny_lm)!r})); "
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

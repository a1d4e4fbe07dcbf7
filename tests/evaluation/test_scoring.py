"""Log-likelihoods by hand on a model that knows only the last token; windows, batches, folders."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from evaluation.quiz import tiny_folder
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from mads.config import TrainingConfig
from mads.errors import DataError, UsageError
from mads.evaluation.scoring import Pair, Score, Scorer, model_folder, open_scorer, windows
from mads.training.model import LanguageModel

TOKENS = ["<s>", "a", "b", " "]
# The probability of each token (a column) after each token (a row).
AFTER = [[1 / 8, 1 / 2, 1 / 4, 1 / 8], [1 / 8, 1 / 2, 1 / 4, 1 / 8], [1 / 4, 1 / 8, 1 / 8, 1 / 2]]
AFTER += [[1 / 8, 1 / 4, 1 / 2, 1 / 8]]


class Bigrams(nn.Module):
    def __init__(self, context: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.tensor(AFTER).log())
        self.config = SimpleNamespace(max_position_embeddings=context)
        self.lengths: list[tuple[int, ...]] = []

    def forward(self, input_ids: Tensor, use_cache: bool) -> SimpleNamespace:
        self.lengths.append(tuple(input_ids.shape))
        return SimpleNamespace(logits=self.table[input_ids])


def characters(**special: str) -> PreTrainedTokenizerFast:
    """A token for each character."""
    tokenizer = Tokenizer(models.WordLevel({t: i for i, t in enumerate(TOKENS)}, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)  # type: ignore[no-untyped-call]


def bigrams(context: int = 16, batch_size: int = 4) -> tuple[Scorer, Bigrams]:
    model = Bigrams(context)
    lm = LanguageModel(model, TrainingConfig(device="cpu"))
    return Scorer(lm, characters(eos_token="<s>"), batch_size), model


def score(scorer: Scorer, *pairs: tuple[str, str]) -> list[Score]:
    return scorer.score([Pair(*pair) for pair in pairs], lambda *_: None)


@pytest.mark.parametrize(
    ("pair", "probability", "greedy"),
    [
        (("a", "b"), 1 / 4, False),
        (("b", "a"), 1 / 8, False),
        (("ab", " b"), 1 / 2 * 1 / 2, True),
        (("ab ", "b"), 1 / 2 * 1 / 2, True),  # the space is the continuation's
        (("ab  ", "b"), 1 / 2 * 1 / 8 * 1 / 2, False),
        (("", "ab"), 1 / 2 * 1 / 4, False),  # after the first token
        (("a", "aaa"), 1 / 8, True),
    ],
)
def test_by_hand(pair: tuple[str, str], probability: float, greedy: bool) -> None:
    (found,) = score(bigrams()[0], pair)
    assert found.log_likelihood == pytest.approx(math.log(probability), abs=1e-6)
    assert found.greedy == greedy
    assert not found.truncated


def test_letters_after_the_same_context_cost_one_input() -> None:
    scorer, model = bigrams()
    found = score(scorer, ("ab", " a"), ("ab", " b"), ("ab", "a"))
    assert model.lengths == [(2, 3)]
    assert [math.exp(one.log_likelihood) for one in found] == pytest.approx([1 / 8, 1 / 4, 1 / 8])


def test_progress_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mads.evaluation.scoring.CHUNK", 2)
    scorer, _ = bigrams(batch_size=1)
    told: list[tuple[int, int]] = []
    pairs = [Pair("a" * n, "b") for n in range(1, 4)]
    found = scorer.score(pairs, lambda *at: told.append(at))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert [math.exp(one.log_likelihood) for one in found] == pytest.approx([1 / 4] * 3)


@pytest.mark.parametrize(
    ("num_scored", "context", "expected"),
    [
        (2, 9, [((0, 1, 2, 3, 4), 2)]),
        (2, 4, [((0, 1, 2, 3, 4), 2)]),
        (2, 3, [((1, 2, 3, 4), 2)]),
        (2, 1, [((2, 3), 1), ((3, 4), 1)]),
        (4, 3, [((0, 1, 2, 3), 3), ((1, 2, 3, 4), 1)]),
    ],
)
def test_windows(
    num_scored: int, context: int, expected: list[tuple[tuple[int, ...], int]]
) -> None:
    assert list(windows(range(5), num_scored, context)) == expected


def test_what_does_not_fit_loses_its_beginning() -> None:
    scorer, model = bigrams(context=3)
    short, long, longer = score(scorer, ("aa", "bb"), ("aaaa", "bb"), ("a", "bbbb"))
    expected = math.log(1 / 4 * 1 / 8)
    assert (short.truncated, long.truncated, longer.truncated) == (False, True, True)
    assert short.log_likelihood == pytest.approx(expected)
    assert long.log_likelihood == pytest.approx(expected)
    assert longer.log_likelihood == pytest.approx(math.log(1 / 4 * 1 / 8**3))
    assert max(length for _, length in model.lengths) == 3


def test_outputs_that_are_not_finite() -> None:
    scorer, model = bigrams()
    model.table.data[1, 2] = math.nan
    with pytest.raises(DataError, match="outputs are not finite"):
        score(scorer, ("a", "b"))


def test_a_tokenizer_without_a_first_token() -> None:
    lm = LanguageModel(Bigrams(4), TrainingConfig(device="cpu"))
    with pytest.raises(UsageError, match="neither a bos_token nor an eos_token"):
        Scorer(lm, characters(), 1)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "begin"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny") / "hf", begin=request.param)


def pairs_of_all_lengths() -> Sequence[tuple[str, str]]:
    return [(f"Which {'plum ' * (n % 7 * 9)}{n}?", f" pear{' fig' * (n % 5)}") for n in range(24)]


def test_batches_change_no_score(folder: Path) -> None:
    one, eight = (score(open_scorer(folder, b), *pairs_of_all_lengths()) for b in (1, 8))
    for a, b in zip(one, eight, strict=True):
        assert a.log_likelihood == pytest.approx(b.log_likelihood, abs=1e-5)
        assert (a.greedy, a.truncated) == (b.greedy, b.truncated)
    assert len({round(a.log_likelihood, 3) for a in one}) > 20


def test_tokens_are_cut_where_the_context_ends(folder: Path) -> None:
    scorer = open_scorer(folder, 1)
    begins = scorer.tokenizer.bos_token_id is not None
    (tokens, count), (same, other), (empty, all_of_it) = scorer.encode(
        [Pair("Which plum?", " pear"), Pair("Which plum? ", "pear"), Pair("", " pear")]
    )
    assert tokens == same == scorer.tokenizer.encode("Which plum? pear")
    assert count == other
    assert scorer.tokenizer.decode(tokens[-count:]) == " pear"
    assert empty[0] == (scorer.tokenizer.bos_token_id or scorer.tokenizer.eos_token_id)
    assert scorer.tokenizer.decode(empty[-all_of_it:]) == " pear"
    if begins:  # a text that begins with the first token has no second one
        assert scorer.encode([Pair("<s>Which plum?", " pear")])[0][0] == tokens


def test_a_model_folder_is_itself(folder: Path) -> None:
    assert model_folder(folder) == folder
    assert open_scorer(folder, 1).context == 128


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "is no model: found nothing there, expected a run or a Hugging Face"),
        ("empty", "is no model: found a folder without config.json"),
        ("store", "is no model: found a store"),
        ("run", "has no checkpoint yet"),
    ],
)
def test_what_is_no_model(tmp_path: Path, name: str, message: str) -> None:
    path = tmp_path / name
    if name != "gone":
        path.mkdir()
    if name == "store":
        (path / "annotate.json").write_text("{}")
    if name == "run":
        (path / "provenance.json").write_text("{}")
        (path / "recipe.toml").write_text("")
    with pytest.raises(UsageError, match=message):
        model_folder(path)


def test_a_folder_without_its_tokenizer(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "hf")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "hf" / name).unlink()
    with pytest.raises(UsageError, match=r"the tokenizer of .* cannot be loaded"):
        open_scorer(tmp_path / "hf", 1)

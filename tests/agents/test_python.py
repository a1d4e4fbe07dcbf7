"""The ``python`` back-end: a class of the user's, and what it may do wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from annotate.test_annotate import run
from toys import MakeRecipe, write_jsonl

from mads.agents import open_agent
from mads.agents.agent import QuantileBins
from mads.agents.python import PythonConfig
from mads.errors import MadsError
from mads.store.store import Store
from mads.types import DocumentBatch, Status

EXAMPLE = Path(__file__).parents[2] / "scripts" / "examples" / "sentence_length.py"
VOWELS = """
class Vowels:
    categories = ("few", "many")
    def __init__(self, limit=2):
        self.limit = limit
    def label(self, texts):
        return ["many" if sum(c in "aeiou" for c in t) > self.limit else "few" for t in texts]
"""


def batch(*texts: str, **fields: list[object]) -> DocumentBatch:
    n = len(texts)
    return DocumentBatch(list(texts), [Status.OK] * n, [1] * n, fields)


def code(folder: Path, text: str, name: str = "mine.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def of(path: str, cls: str, **keys: Any) -> PythonConfig:
    return PythonConfig("python", code=f"{path}:{cls}", **keys)


def labels(config: PythonConfig, documents: DocumentBatch) -> list[str]:
    agent = open_agent("mine", config)
    assert not isinstance(agent, QuantileBins)
    return [agent.categories[i] for i in agent.label(documents).category_N]


def message(config: PythonConfig, documents: DocumentBatch | None = None) -> str:
    with pytest.raises(MadsError) as caught:
        asked(config, documents or batch("one", "two"))
    return str(caught.value)


def asked(config: PythonConfig, documents: DocumentBatch) -> None:
    agent = open_agent("mine", config)
    _ = agent.score(documents) if isinstance(agent, QuantileBins) else agent.label(documents)


def test_a_class_of_a_file_labels_with_its_options(tmp_path: Path) -> None:
    path = code(tmp_path, VOWELS)
    assert labels(of(path, "Vowels"), batch("aeiou", "xyz")) == ["many", "few"]
    assert labels(of(path, "Vowels", options={"limit": 9}), batch("aeiou", "xyz")) == ["few", "few"]


def test_a_class_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code(tmp_path, VOWELS, "vowels_of_a_module.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert labels(of("vowels_of_a_module", "Vowels"), batch("aeiou")) == ["many"]


def test_the_fingerprint_follows_source_options_and_files(tmp_path: Path) -> None:
    path, data = code(tmp_path, VOWELS), tmp_path / "data.txt"
    data.write_text("a")

    def made(**keys: Any) -> str:
        return open_agent("mine", of(path, "Vowels", **keys)).fingerprint

    before, with_file = made(), made(files=(str(data),))
    assert before == made()
    assert len({before, with_file, made(options={"limit": 3}), made(categories=("few", "x"))}) == 4
    data.write_text("b")
    assert made(files=(str(data),)) != with_file
    code(tmp_path, VOWELS + "# more\n")
    assert made() != before
    assert "'no.txt' does not exist" in message_of_fingerprint(path)


def message_of_fingerprint(path: str) -> str:
    with pytest.raises(MadsError) as caught:
        open_agent("mine", of(path, "Vowels", files=("no.txt",)))
    return str(caught.value)


def scorer(answers: str) -> str:
    return f"class Mine:\n    def score(self, texts):\n        return {answers}\n"


BINS: dict[str, Any] = {"edges": (1.0,), "categories": ("low", "high")}


def test_scores_are_binned_and_none_goes_to_other(tmp_path: Path) -> None:
    path = code(tmp_path, scorer("[None if not t else len(t) / 2 for t in texts]"))
    config = of(path, "Mine", other="low", **BINS)
    assert labels(config, batch("abc", "a", "")) == ["high", "low", "low"]
    bins = open_agent("mine", of(path, "Mine", quantiles=2))
    assert isinstance(bins, QuantileBins)
    assert bins.score(batch("abc", "abcd")).score_N.tolist() == [1.5, 2.0]


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ("[1.0]", "`score` gave 1 answers for 2 texts"),
        ("[1.0, float('nan')]", "`score` gave nan for text 1 of the batch"),
        ("[1.0, None]", "gave None for text 1 of the batch, expected a finite number. Set `other`"),
        ("['a', 1]", "gave 'a' for text 0"),
        ("[1e300, 1]", "gave 1e+300 for text 0"),
        ("texts[0] / 2", "mine.py, line 3, in score: TypeError: unsupported operand"),
        ("7", "`score`. "),
    ],
)
def test_wrong_answers_and_errors_are_told_with_their_place(
    answers: str, told: str, tmp_path: Path
) -> None:
    found = message(of(code(tmp_path, scorer(answers)), "Mine", **BINS))
    assert "agent 'mine'" in found
    assert told in found


def test_an_answer_that_is_no_category_is_refused(tmp_path: Path) -> None:
    path = code(tmp_path, VOWELS)
    found = message(of(path, "Vowels", categories=("few", "lots")), batch("aeiou"))
    assert (
        "`label` gave 'many' for text 0 of the batch, expected one of the categories few" in found
    )


@pytest.mark.parametrize(
    ("text", "cls", "keys", "told"),
    [
        (VOWELS, "Vowel", {}, "has no class 'Vowel'; did you mean 'Vowels'"),
        ("class A: pass", "A", {}, "needs a method `label` or a method `score`, found neither"),
        ("x = 1 / 0", "A", {}, "mine.py, line 1, in <module>: ZeroDivisionError"),
        ("def f(:", "A", {}, "mine.py, line 1: SyntaxError"),
        (scorer("[]"), "Mine", {}, "needs edges or quantiles"),
        (scorer("[]"), "Mine", {"edges": (2.0, 1.0), "categories": ("a", "b", "c")}, "do not rise"),
        (VOWELS, "Vowels", {"quantiles": 3}, "edges and quantiles are for one that scores"),
        ("class A:\n def label(self, t): ...", "A", {}, "agents.mine.categories: name them here"),
        (VOWELS, "Vowels", {"options": {"limits": 3}}, "cannot be made. .*TypeError: .*'limits'"),
    ],
)
def test_wrong_classes_are_told(
    text: str, cls: str, keys: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(MadsError, match=told):
        asked(of(code(tmp_path, text), cls, **keys), batch("a"))


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("", "expected module:Class"),
        ("mads.units", "expected module:Class"),
        ("no/file.py:A", "'no/file.py' does not exist"),
        ("no_such.module:A", "there is no module 'no_such.module'"),
    ],
)
def test_code_that_is_not_there_is_told(code: str, told: str) -> None:
    with pytest.raises(MadsError, match=f"agents.mine.code: .*{told}"):
        open_agent("mine", PythonConfig("python", code=code))


def test_the_shipped_example_labels_a_corpus(tmp_path: Path, toy_recipe: MakeRecipe) -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 40
    texts = ["One two. Three four five.", "word " * 30, "a b c d e f g h i j k l m n o p q r."]
    rows = [{"text": text, "source": "web"} for text in texts]
    rows.append({"text": "x " * 30, "source": "code"})
    agent = {
        "backend": "python",
        "code": f"{EXAMPLE}:SentenceLength",
        "options": {"longest": 200},
        "edges": [12.0, 24.0],
        "categories": ["short", "medium", "long"],
    }
    corpus = write_jsonl(tmp_path / "c.jsonl", rows)
    recipe = toy_recipe(agents={"sentences": agent}, corpus={"workers": 2})
    run([corpus], tmp_path / "store", recipe)
    cells = Store(tmp_path / "store").cells
    assert cells.by_category("sentences", cells.num_docs_C).tolist() == [2, 1, 1]

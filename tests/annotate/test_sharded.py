"""Parts on many machines: the store that one process makes, whatever comes when and twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from annotate.test_annotate import SHARDS, content, run
from annotate.test_annotate_killed import MADS, has_come, num_files, wait_until
from command import mads
from toys import Document, MakeRecipe, write_jsonl

from mads.annotate.growth import Before, look
from mads.annotate.sharded import annotate_part, deal, finish, parse_shard, plan
from mads.config import CorpusConfig, Recipe, TokenizerConfig
from mads.corpus.files import CorpusFile
from mads.errors import DataError, InUse, UsageError
from mads.files import exclusive, shared
from mads.layout import StoreDir
from mads.recipe import to_table, to_toml
from mads.store.spec import StoreSpec, make_shards
from mads.store.store import Store

Capture = pytest.CaptureFixture[str]
MORE: list[Document] = [
    {"text": f"the new river {i}", "meta": {"domain": "news"}, "quality": i % 5} for i in range(30)
]


def quiet(*_: object) -> None:
    pass


@pytest.fixture
def recipe(toy_recipe: MakeRecipe) -> Recipe:
    """Three agents, one of which needs edges of the whole corpus."""
    thirds = {"backend": "column", "field": "quality", "quantiles": 3}
    agents = to_table(toy_recipe())["agents"] | {"thirds": thirds}
    corpus = {"workers": 1, "executor": "inline", **SHARDS}
    return toy_recipe(agents=agents, corpus=corpus)


@pytest.fixture
def whole(toy_corpus: Path, recipe: Recipe, tmp_path: Path) -> Path:
    run([toy_corpus], tmp_path / "whole", recipe)
    return tmp_path / "whole"


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 2, 3, 1, 1)])
def test_parts_in_any_order_make_the_store_of_one_process(
    whole: Path, toy_corpus: Path, recipe: Recipe, tmp_path: Path, order: tuple[int, ...]
) -> None:
    out = tmp_path / "store"
    planned = plan([toy_corpus], out, recipe, quiet)
    assert (planned.files, planned.rows, planned.shards, planned.new_shards) == (3, 300, 39, 39)
    done = [annotate_part([toy_corpus], out, recipe, (i, 3), quiet) for i in order]
    assert sum(one.new_shards for one in done) == 39
    assert {one.part: one.shards for one in done}.keys() == {1, 2, 3}
    last = next(i for i, one in enumerate(done) if one.complete)
    assert set(order[: last + 1]) == {1, 2, 3}
    assert all((one.finished is not None) == (i >= last) for i, one in enumerate(done))
    assert content(out) == content(whole)
    late = annotate_part([toy_corpus], out, recipe, (7, 9), quiet)  # after all is done
    assert late.finished is not None
    assert not late.finished.new_index
    assert not finish([toy_corpus], out, recipe, quiet).new_index
    assert content(out) == content(whole)
    # The notes of what was seen let the plain command find it complete too.
    assert run([toy_corpus], out, recipe).new_index is False


def test_a_part_that_is_killed_is_run_again(
    whole: Path, toy_corpus: Path, recipe: Recipe, tmp_path: Path
) -> None:
    out, path = tmp_path / "store", tmp_path / "recipe.toml"
    path.write_text(to_toml(to_table(recipe)))
    command = [sys.executable, "-c", MADS, "annotate", str(toy_corpus), "--out", str(out)]
    command += ["--recipe", str(path)]
    plan([toy_corpus], out, recipe, quiet)
    codes = []
    for number, how in ((2, signal.SIGKILL), (2, signal.SIGTERM)):
        goal = num_files(out) + 12
        with subprocess.Popen([*command, "--shard", f"{number}/3"], stderr=-1, text=True) as part:
            wait_until(partial(has_come, out, goal, part))
            part.send_signal(how)
            codes.append(part.wait())
            assert part.stderr is not None
            assert "Traceback" not in part.stderr.read()
    assert codes == [-signal.SIGKILL, 75]
    with pytest.raises(DataError, match=r"\d+ of 39 shards lack something:\n  - shard \d+: "):
        finish([toy_corpus], out, recipe, quiet)
    assert StoreDir(out).workplaces  # what was half written
    for number in (3, 1, 2):
        annotate_part([toy_corpus], out, recipe, (number, 3), quiet)
    assert content(out) == content(whole)


def test_two_with_the_same_number_at_the_same_time_are_safe(
    whole: Path, toy_corpus: Path, recipe: Recipe, tmp_path: Path
) -> None:
    out, path = tmp_path / "store", tmp_path / "recipe.toml"
    path.write_text(to_toml(to_table(recipe)))
    plan([toy_corpus], out, recipe, quiet)
    command = [sys.executable, "-m", "mads", "annotate", str(toy_corpus), "--out", str(out)]
    command += ["--recipe", str(path), "--shard"]
    parts = [subprocess.Popen([*command, i], stderr=-1) for i in ("1/2", "1/2", "2/2")]
    words = [part.communicate()[1] for part in parts]
    assert [part.returncode for part in parts] == [0, 0, 0], words
    assert content(out) == content(whole)
    assert not StoreDir(out).workplaces


def test_the_last_one_out_leaves_the_index_to_who_holds_the_store(
    toy_corpus: Path, recipe: Recipe, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    plan([toy_corpus], out, recipe, quiet)
    with shared(out):  # another part is at work
        done = annotate_part([toy_corpus], out, recipe, (1, 1), quiet)
        with pytest.raises(InUse, match="is being written by another mads process"):
            finish([toy_corpus], out, recipe, quiet)
    assert (done.complete, done.finished) == (True, None)
    assert finish([toy_corpus], out, recipe, quiet).new_index


def test_a_store_grows_in_parts(
    toy_corpus: Path, recipe: Recipe, tmp_path: Path, toy_recipe: MakeRecipe
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(toy_corpus, corpus)
    stores = tmp_path / "a", tmp_path / "b"
    for out in stores:
        run([corpus], out, recipe)
    write_jsonl(corpus / "z.jsonl", MORE)
    tenths = {"backend": "column", "field": "quality", "quantiles": 10}
    agents = to_table(recipe)["agents"] | {"tenths": tenths}
    for more in (recipe, toy_recipe(agents=agents, corpus=to_table(recipe)["corpus"])):
        run([corpus], stores[0], more)
        with pytest.raises(DataError, match="was planned otherwise"):
            annotate_part([corpus], stores[1], more, (1, 2), quiet)
        before = Store(stores[1]).generation
        plan([corpus], stores[1], more, quiet)
        annotate_part([corpus], stores[1], more, (2, 2), quiet)
        assert Store(stores[1]).generation == before  # the old one is what there is, until the end
        found = annotate_part([corpus], stores[1], more, (1, 2), quiet).finished
        assert found is not None
        assert found.generation == before + 1
        assert content(stores[1]) == content(stores[0])


def test_every_wrong_use_is_told(
    toy_corpus: Path, recipe: Recipe, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    corpus, out = tmp_path / "corpus", tmp_path / "store"
    shutil.copytree(toy_corpus, corpus)

    def refused(message: str, given: Recipe = recipe, *, of: Path = out) -> None:
        for call in (
            lambda: annotate_part([corpus], of, given, (1, 2), quiet),
            lambda: finish([corpus], of, given, quiet),
        ):
            with pytest.raises(DataError, match=message):
                call()

    refused(r"store has no plan. Run the same command with --plan first")
    assert not out.exists()
    plan([corpus], out, recipe, quiet)
    shutil.move(StoreDir(out).tokenizer, tmp_path / "kept")
    refused(r"store has half a plan \(no tokenizer\)")
    shutil.move(tmp_path / "kept", StoreDir(out).tokenizer)
    table = to_table(recipe)
    refused("another seed: found 0, now 1", toy_recipe(**table | {"seed": 1}))
    words = table["corpus"] | {"text_field": "words"}
    refused("another corpus.text_field: found 'text', now 'words'", toy_recipe(corpus=words))
    less = {name: agent for name, agent in table["agents"].items() if name != "thirds"}
    refused(
        r"planned otherwise:\n  - agent 'thirds': planned fingerprint \w{16}, found none\nGive",
        toy_recipe(**table | {"agents": less}),
    )
    more = write_jsonl(corpus / "more.jsonl", MORE)
    refused(r"  - file .*more\.jsonl: planned not there, found \w{16}\nGive what --plan was given")
    more.unlink()
    victim = corpus / "part-1.jsonl"
    text = victim.read_text()
    victim.write_text(text.replace("river", "rover"))
    refused(r"part-1\.jsonl has changed: found sha256 \w{16}, expected \w{16}")
    victim.unlink()
    refused(r"part-1\.jsonl is gone")
    victim.write_text(text)
    for number in (1, 2):
        annotate_part([corpus], out, recipe, (number, 2), quiet)
    victim.write_text(text.replace("river", "rover"))
    refused(r"part-1\.jsonl has changed")


def test_a_plan_and_a_finish_keep_away_while_parts_work(
    toy_corpus: Path, recipe: Recipe, tmp_path: Path
) -> None:
    plan([toy_corpus], tmp_path / "store", recipe, quiet)
    with shared(tmp_path / "store"), shared(tmp_path / "store"):  # parts bear each other
        with pytest.raises(InUse), exclusive(tmp_path / "store"):
            pass
        with pytest.raises(InUse):
            plan([toy_corpus], tmp_path / "store", recipe, quiet)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "1", "a/b", "-1/3", "1/3/5", "²/3", ""])
def test_a_part_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected i/n with i from 1 to n, such as 1/8 and 8/8"):
        parse_shard(text)


def array(**values: int) -> dict[str, str]:
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (array(ID=0, MIN=0, MAX=7, COUNT=8), (1, 8)),
        (array(ID=8, MIN=1, MAX=8, COUNT=8), (8, 8)),
        (array(ID=9, MIN=1, MAX=13, COUNT=4), (3, 4)),  # --array=1-13:4
        (array(ID=3, MIN=3, MAX=3, COUNT=1), (1, 1)),  # one task again: whatever is left
        ({"RANK": "2", "WORLD_SIZE": "4"}, (3, 4)),
        (array(ID=2, MIN=1, MAX=3, COUNT=3) | {"RANK": "1", "WORLD_SIZE": "2"}, (4, 6)),
    ],
)
def test_a_batch_system_says_which_part(
    environment: dict[str, str], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clear(monkeypatch)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert parse_shard("auto") == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "neither SLURM_ARRAY_TASK_ID nor RANK is in the environment. Give i/n."),
        (array(ID=5, MIN=1, MAX=7, COUNT=3), "expected an array of equal steps"),  # 1,5,7
        (array(ID=5), "found SLURM_ARRAY_TASK_ID=5, SLURM_ARRAY_TASK_MIN=,"),
        ({"RANK": "4", "WORLD_SIZE": "4"}, "found RANK=4 and WORLD_SIZE=4, expected a rank below"),
        ({"RANK": "x", "WORLD_SIZE": "4"}, "found RANK=x"),
    ],
)
def test_what_a_batch_system_says_may_be_unusable(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear(monkeypatch)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message):
        parse_shard("auto")


def clear(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("SLURM_") or name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name)


def spec_of(*files: tuple[str, int]) -> StoreSpec:
    found = [
        CorpusFile(name, 1, rows, 10**9, name, tuple(range(0, rows, 10))) for name, rows in files
    ]
    shards = tuple(make_shards(found, 0, CorpusConfig(shard_docs=10)))
    return StoreSpec("/", tuple(found), shards, "text", 1, TokenizerConfig(), {}, 0)


@pytest.mark.parametrize("parts", [1, 3, 8, 50])
def test_parts_are_disjoint_and_about_as_large(parts: int) -> None:
    spec = spec_of(("a.jsonl", 800), ("b.jsonl.gz", 95), *((f"{i}.jsonl", 7) for i in range(20)))
    found = deal(spec, Before(), parts)
    assert len(found) == parts
    assert sorted(shard for part in found for shard in part) == list(range(len(spec.shards)))
    rows = [sum(spec.shards[shard].num_rows for shard in part) for part in found]
    assert max(rows) <= max(2 * spec.num_rows / parts, 95)
    assert found == deal(spec, Before(), parts)


def test_what_is_new_of_a_grown_store_is_shared_out_evenly(
    toy_store: Path, toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    shutil.copytree(toy_store, tmp_path / "store")
    shutil.copytree(toy_corpus, tmp_path / "corpus")
    for i in range(4):
        write_jsonl(tmp_path / "corpus" / f"new-{i}.jsonl", MORE)
    plan([tmp_path / "corpus"], tmp_path / "store", toy_recipe(), quiet)
    before = look(StoreDir(tmp_path / "store"))
    assert before.begun is not None
    found = deal(before.begun, before, 4)
    assert sorted(len([shard for shard in part if shard >= 3]) for part in found) == [1, 1, 1, 1]


def test_the_command_line_says_how_to_go_on(
    toy_corpus: Path, recipe: Recipe, tmp_path: Path, capsys: Capture
) -> None:
    path, out = tmp_path / "recipe.toml", tmp_path / "store"
    path.write_text(to_toml(to_table(recipe)))
    call = ("annotate", toy_corpus, "--out", out, "--recipe", path)
    assert mads(capsys, *call, "--plan", "--finish") == (
        *(2, ""),
        "mads: give one of --plan, --shard i/n and --finish, in this order.\n",
    )
    code, _, words = mads(capsys, *call, "--shard", "1/2", "--verify")
    assert (code, "--verify reads everything" in words) == (2, True)
    code, _, words = mads(capsys, *call, "--plan")
    assert code == 0
    assert "planned 3 files, 300 rows" in words
    assert "--shard 1/N … N/N" in words
    code, _, words = mads(capsys, *call, "--shard", "2/2")
    assert code == 0
    assert "part 2/2 of 20 shards, of which 20 were to do" in words
    assert "other parts are still to do." in words
    code, _, words = mads(capsys, *call, "--shard", "1/2")
    assert code == 0
    assert "the store is complete: " in words
    assert mads(capsys, *call, "--finish", "--json")[0] == 0

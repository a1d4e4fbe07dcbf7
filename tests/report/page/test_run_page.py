"""The page of a run of the planted world has its numbers; unfinished runs have a page, too."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from report.page.pages import EVIL, check

from mads.report.page.collect import RunData, collect
from mads.report.page.html import render
from mads.report.page.run_page import NEEDS_STORE, run_page
from mads.report.page.scale import fixed, signed


@pytest.fixture(scope="session")
def data(folder: Path) -> RunData:
    return collect(folder / "run", folder / "store")


def test_it_contains_the_runs_numbers(folder: Path, data: RunData) -> None:
    page = check(render(run_page(data)))
    result = json.loads((folder / "run/result.json").read_text())
    assert fixed(result["losses"]["planted"], 4) in page.text
    for agent, theta in result["theta"].items():
        assert f"w of {agent}" in page.text
        assert fixed(theta) in page.text
    for table in result["weights"].values():
        assert all(fixed(weight) in page.text for weight in table.values())
    last = data.measured[-1][1].rewards
    assert last is not None
    assert signed(last["kind"]["useful"][0], 4) in page.text
    assert data.store is not None
    assert signed(data.store.documents[0].reward, 4) in page.text
    assert data.provenance.store in page.text
    assert "update_every = 5" in page.text
    assert page.tags.count("figure") == page.tags.count("svg") == len(run_page(data).figures)


def test_every_figure_has_a_table_and_a_name_of_its_own(data: RunData) -> None:
    figures = run_page(data).figures
    assert all(figure.table.rows for figure in figures)
    assert len({figure.name for figure in figures}) == len(figures)


def test_without_a_store_the_page_says_what_is_missing(folder: Path) -> None:
    page = run_page(collect(folder / "run", None))
    assert NEEDS_STORE in page.notes
    titles = [section.title for section in page.sections]
    assert "Rewards" in titles
    assert not {"What was read", "The agents", "Most and least rewarded documents"} & set(titles)
    check(render(page))


def test_a_run_that_goes_on(folder: Path, tmp_path: Path) -> None:
    """Killed in mid-line in the second round: what is whole is shown."""
    run = Path(shutil.copytree(folder / "run", tmp_path / "run"))
    (run / "result.json").unlink()
    for number in (2, 3):
        shutil.rmtree(run / "rounds" / f"000{number}")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    kept = next(i for i, line in enumerate(lines) if '"step": 8' in line)
    (run / "metrics.jsonl").write_text("\n".join(lines[: kept + 1]) + '\n{"kind": "st')
    page = run_page(collect(run, folder / "store"))
    assert "9 of 20 steps" in page.notes[0]
    assert dict(page.facts)["Steps"] == "9 of 20"
    check(render(page))


def test_a_run_without_rounds(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("recipe.toml", "provenance.json"):
        shutil.copy(folder / "run" / name, run / name)
    for store in (None, folder / "store"):
        page = run_page(collect(run, store))
        assert "No round has begun yet" in page.notes[1]
        check(render(page))


def test_hostile_names_are_texts(data: RunData) -> None:
    records = [
        replace(
            one,
            record=replace(
                one.record,
                theta={EVIL: 0.5},
                weights={EVIL: {EVIL: 1.0, "b": 2.0}},
                losses={EVIL: 1.0},
                feedback=None,
            ),
            weight_error={EVIL: {EVIL: 0.1}},
        )
        for one in data.rounds
    ]
    assert data.store is not None
    documents = tuple(
        replace(one, file=EVIL, labels={EVIL: EVIL}, excerpt=EVIL) for one in data.store.documents
    )
    shares = {EVIL: {EVIL: 0.5, "b": 0.5}}
    store = replace(
        data.store,
        docs=shares,
        tokens=shares,
        read={0: shares},
        agreement={(EVIL, EVIL): 1.0},
        documents=documents,
    )
    evil = replace(
        data,
        name=EVIL,
        rule=EVIL,
        recipe=EVIL,
        losses={EVIL: ((0, 1.0), (5, 2.0))},
        store=store,
        rounds=tuple(records),
    )
    html = render(run_page(evil))
    page = check(html)
    assert html.count("alert(1)") == html.count("&lt;script&gt;alert(1)")
    assert page.text.count("\\u202e") > 20
    assert not set(html) & set("\x1b\u202e\x00")

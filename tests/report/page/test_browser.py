"""Pages in a real browser: no script error, no request, readable on a phone, with scripts off."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from report.page.browser import CHROMIUM, DRIVER, Browser, driver
from typer.testing import CliRunner

from mads.cli import app
from mads.experiments.comparison import write_arms
from mads.layout import ComparisonDir
from mads.store.store import Store

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (Debian's packages)"
)
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with driver() as found:
        yield found


@pytest.fixture(scope="module", params=["run", "comparison"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run, and of a comparison."""
    folder: Path = request.getfixturevalue("folder")
    place = tmp_path_factory.mktemp("page")
    what, out = folder / "run", place / f"{request.param}.html"
    if request.param == "comparison":
        what = Path(shutil.copytree(request.getfixturevalue("root"), place / "comparison"))
        arms = request.getfixturevalue("arms")
        write_arms(ComparisonDir(what), Store(folder / "store"), arms)
    command = ["report", str(what), "--store", str(folder / "store"), "--out", str(out)]
    assert CliRunner().invoke(app, command).exit_code == 0
    return out


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_errors_or_requests(
    address: str, page: Path, width: int, scheme: str
) -> None:
    browser = Browser(address)
    try:
        browser.open(page, width, scheme)
        assert browser.said() == []
        assert browser.requested() == [page.absolute().as_uri()]
        assert browser.run(OVERFLOW) == 0  # nothing to scroll sideways
        drawn = browser.run(
            "return [...document.querySelectorAll('figure svg')].map(s => {"
            "const box = s.getBoundingClientRect(); return [box.width, box.height]})"
        )
        assert len(drawn) > 3
        assert all(100 < w <= width and h > 50 for w, h in drawn)
        dark = browser.run(
            "const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g);"
            "return +r + +g + +b < 384"
        )
        assert dark == (scheme == "dark")
    finally:
        browser.close()


def test_it_can_be_read_with_scripts_off(address: str, page: Path) -> None:
    browser = Browser(address)
    try:
        browser.devtools("Emulation.setScriptExecutionDisabled", {"value": True})
        browser.open(page, 390)
        found = browser.devtools("Accessibility.getFullAXTree", {})["nodes"]
        names = {str(node.get("name", {}).get("value", "")) for node in found}
        roles = [str(node.get("role", {}).get("value", "")) for node in found]
        assert "figure" in roles or "Figure" in roles
        assert roles.count("heading") > 3
        assert any("Wikipedia" in name or "useful" in name or "natural" in name for name in names)
    finally:
        browser.close()


def test_every_figure_has_its_numbers_in_a_table_that_opens(address: str, page: Path) -> None:
    browser = Browser(address)
    try:
        browser.open(page, 390)
        hidden, shown = browser.run(
            "const all = [...document.querySelectorAll('figure')];"
            "const tables = all.map(f => f.querySelector('table'));"
            "const seen = () => tables.map(t => t ? t.getBoundingClientRect().height : -1);"
            "const before = seen();"
            "document.querySelectorAll('details').forEach(d => d.open = true);"
            "return [before, seen()]"
        )
        assert -1 not in hidden
        assert all(height > 20 for height in shown)
        assert browser.run(OVERFLOW) == 0
    finally:
        browser.close()

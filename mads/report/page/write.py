"""Writes the page of a run or a comparison, and its main figures as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mads.errors import UsageError
from mads.files import write_text
from mads.layout import ComparisonDir, RunDir
from mads.report.page.arms import collect_comparison
from mads.report.page.collect import collect
from mads.report.page.comparison_page import comparison_page
from mads.report.page.html import MARK, Page, render
from mads.report.page.run_page import run_page
from mads.report.page.svg import alone

DEFAULT = Path("report.html")
_HEAD = 400  # characters in which the mark of a page of ours stands


@dataclass(frozen=True, slots=True)
class Written:
    """What was written; ``svg`` are the files of figures."""

    out: str
    num_bytes: int
    figures: int
    svg: tuple[str, ...]


def write_report(path: Path, store: Path | None, out: Path, svg: Path | None) -> Written:
    """Write the page of what ``path`` holds.

    Raises UsageError for what is no run and no comparison, or an ``out`` that is another file,
    and whatever reading them raises.
    """
    _check_out(out)
    page = make_page(path, store)
    text = render(page)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    files = [] if svg is None else _write_figures(page, svg)
    return Written(str(out), len(text.encode()), len(page.figures), tuple(map(str, files)))


def make_page(path: Path, store: Path | None) -> Page:
    """Return the page of a run or a comparison."""
    if not path.exists():
        raise UsageError(f"{path} does not exist. Give a run or a comparison.")
    if ComparisonDir(path).arms.is_file():
        return comparison_page(collect_comparison(path, store))
    if not RunDir(path).provenance.is_file():
        raise UsageError(
            f"{path} is neither a run nor a comparison. Give the folder that `mads train --out` or "
            "`mads compare --out` wrote."
        )
    return run_page(collect(path, store))


def _check_out(out: Path) -> None:
    """Raise UsageError unless nothing is at a place, or a page that was made before."""
    if out.is_dir():
        raise UsageError(f"{out} is a folder. Give a file as --out, as in {out / DEFAULT}.")
    if out.is_file():
        with out.open(encoding="utf-8", errors="replace") as handle:
            head = handle.read(_HEAD)
        if MARK not in head:
            raise UsageError(
                f"{out} is there already, and `mads report` has not made it. Give another --out."
            )


def _write_figures(page: Page, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for figure in page.figures:
        if figure.main:
            files.append(folder / f"{figure.name}.svg")
            write_text(files[-1], alone(figure.svg))
    return files

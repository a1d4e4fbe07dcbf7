"""DuckDB finds what a search row by row finds, and can do nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from selection.toy import make_cells, planned_rows, write_order

from mads.config import SelectionConfig
from mads.errors import DataError
from mads.selection.parts import Rows
from mads.selection.plan import Cursors, make_plan
from mads.selection.query import OrderReader, connect, literal
from mads.selection.ranges import Range
from mads.selection.take import take
from mads.units import Unit

CONFIG = SelectionConfig(temperature=0.5)


@pytest.mark.parametrize("unit", ["tokens", "docs"])
@pytest.mark.parametrize("folder", ["plain", "a[1]*'x", "ä b"])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_duckdb_returns_the_planned_rows(
    tmp_path: Path, folder: str, threads: int, unit: Unit
) -> None:
    sizes = np.random.default_rng(1).integers(1, 50, (5, 40)).tolist()
    cells, order = make_cells(sizes)
    path = tmp_path / folder / "order.parquet"
    path.parent.mkdir()
    write_order(path, order)
    config = SelectionConfig(temperature=0.5, threads=threads)
    cursors = Cursors.start(5)
    for step in range(6):
        score_C = np.linspace(-1, step, 5)
        budget = 2500 if unit == "tokens" else 90
        plan = make_plan(cells, score_C, cursors, budget, config, step, unit)
        expected = take(cells, plan, planned_rows(cells, order, plan), config.decay)
        selection = OrderReader(path, cells, config).select(plan)
        assert selection.doc_N.tolist() == expected.doc_N.tolist()
        assert selection.ranges == expected.ranges
        cursors = selection.cursors


@pytest.mark.parametrize("unit", ["tokens", "docs"])
@pytest.mark.parametrize("policy", ["top", "sample", "random"])
@pytest.mark.parametrize("budget", [3, 40, 700])
def test_reading_ahead_changes_nothing(
    tmp_path: Path, policy: str, unit: Unit, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when cells wrap, when scores change, and when what was read ahead does not suffice."""
    sizes = np.random.default_rng(2).integers(1, 50, (6, 30)).tolist()
    cells, order = make_cells(sizes)
    path = tmp_path / "order.parquet"
    write_order(path, order)
    config = SelectionConfig(policy=policy, threads=1)
    cursors, queries = Cursors.start(6), 0
    with OrderReader(path, cells, config) as reader:
        read = reader._read

        def counted(*arguments: Any) -> Rows:
            nonlocal queries
            queries += 1
            return read(*arguments)

        monkeypatch.setattr(reader, "_read", counted)
        for step in range(60):
            score_C = np.array([1.0, 0.9, 0.8, -0.5, -1.0, step // 30])
            plan = make_plan(cells, score_C, cursors, budget, config, step, unit)
            expected = take(cells, plan, planned_rows(cells, order, plan), config.decay)
            selection = reader.select(plan, selections=60 - step)
            assert selection.doc_N.tolist() == expected.doc_N.tolist()
            assert selection.num_tokens_N.tolist() == expected.num_tokens_N.tolist()
            assert selection.ranges == expected.ranges
            cursors = selection.cursors
    # A window holds one pass at most, so a large budget needs a query for each selection.
    assert queries < {3: 15, 40: 60, 700: 61}[budget]


def test_ranges_name_rows_of_the_order(tmp_path: Path) -> None:
    cells, order = make_cells([[3, 4, 5], [6, 7, 8, 9]])
    path = tmp_path / "order.parquet"
    write_order(path, order)
    cursors = Cursors(np.array([0, 1]), np.array([1, 2]), np.array([3, 13]), np.zeros(2, np.int64))
    plan = make_plan(cells, np.array([1.0, 2.0]), cursors, 27, SelectionConfig(policy="top"), 0)
    selection = OrderReader(path, cells, CONFIG).select(plan)
    # Cell 1 (score 2/1.1, then 2/1.2) is taken whole: 17 later tokens, 13 earlier ones, cut.
    assert selection.ranges == [
        Range(1, 1, 2 / 1.1, 2, 4, 13, 30),
        Range(1, 2, 2 / 1.2, 0, 2, 0, 13),
    ]
    cursors = selection.cursors
    assert cursors.passes_C.tolist() == [0, 2]
    assert cursors.row_C.tolist() == [1, 2]
    assert cursors.tokens_C.tolist() == [3, 13]


def test_a_literal_path_has_no_glob() -> None:
    assert literal(Path("/x/a[1]*?.parquet")) == "/x/a[[]1][*][?].parquet"


def test_the_connection_can_read_its_files_and_nothing_else(tmp_path: Path) -> None:
    cells, order = make_cells([[1, 2]])
    del cells
    allowed, secret = tmp_path / "order.parquet", tmp_path / "secret.parquet"
    write_order(allowed, order)
    write_order(secret, order)
    link = tmp_path / "link.parquet"
    link.symlink_to(secret)
    with connect([allowed], CONFIG) as connection:
        found = connection.sql("SELECT count(*) FROM read_parquet($p)", params={"p": str(allowed)})
        assert found.fetchall() == [(2,)]
        for query in (
            "SELECT * FROM read_csv('/etc/passwd')",
            f"SELECT * FROM read_parquet('{secret}')",
            f"SELECT * FROM read_parquet('{link}')",
            f"SELECT * FROM read_parquet('{tmp_path}/*.parquet')",
            f"SELECT * FROM read_parquet('{tmp_path}/x/../secret.parquet')",
            f"ATTACH '{tmp_path}/x.db'",
            f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
            "INSTALL httpfs",
            "SET enable_external_access = true",
            "SET allowed_paths = ['/etc/passwd']",
            "SET memory_limit = '100GB'",
        ):
            with pytest.raises((duckdb.Error, ValueError)):
                connection.execute(query)
    assert not (tmp_path / "out.csv").exists()


def test_a_missing_or_damaged_order_says_what_to_do(tmp_path: Path) -> None:
    cells, _ = make_cells([[1, 2]])
    plan = make_plan(cells, np.ones(1), Cursors.start(1), 2, CONFIG, 0)
    path = tmp_path / "order.parquet"
    with pytest.raises(DataError, match=r"order.parquet does not exist\. Run the same `mads annot"):
        OrderReader(path, cells, CONFIG).select(plan)
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(
        DataError, match=r"order.parquet cannot be read: .*\. Run the same `mads annotate --verify`"
    ):
        OrderReader(path, cells, CONFIG).select(plan)


def test_too_little_memory_says_what_to_raise(tmp_path: Path) -> None:
    cells, order = make_cells([[1] * 200_000])
    path = tmp_path / "order.parquet"
    write_order(path, order, row_group_size=65_536)
    config = SelectionConfig(ram="1MB", threads=1)
    plan = make_plan(cells, np.ones(1), Cursors.start(1), 200_000, config, 0)
    with pytest.raises(DataError, match=r"found 1MB\. Raise selection\.ram \(1GB, say\)"):
        OrderReader(path, cells, config).select(plan)


def test_a_fault_of_the_machine_is_no_reason_to_delete_the_order(tmp_path: Path) -> None:
    cells, order = make_cells([[1, 2]])
    path = tmp_path / "order.parquet"
    write_order(path, order)
    plan = make_plan(cells, np.ones(1), Cursors.start(1), 2, CONFIG, 0)

    class Broken:
        def register(self, *_: object) -> None:
            text = f'IO Error: Cannot open file "{path}": Too many open files'
            raise duckdb.IOException(text)

        def close(self) -> None: ...

    with OrderReader(path, cells, CONFIG) as reader:
        reader._connection.close()
        reader._connection = Broken()  # type: ignore[assignment]
        with pytest.raises(DataError, match=r"order\.parquet cannot be read: IO Err.*") as caught:
            reader.select(plan)
    assert str(caught.value).endswith(
        "The limit of open files is reached; raise it (ulimit -n 4096)."
    )
    assert "elete" not in str(caught.value)

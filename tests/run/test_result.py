"""result.json."""

from __future__ import annotations

from pathlib import Path

import pytest

from mads.errors import DataError
from mads.run.result import TrainResult, read_result, write_result

RESULT = TrainResult(
    20, 4, 10_240, {"planted": 2.5}, {"entropy": 1}, "console", {"a": 1.0}, {"a": {"x": 1.5}}
)


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    assert read_result(path) is None
    write_result(path, RESULT)
    assert read_result(path) == RESULT


def test_a_changed_result_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_result(path, RESULT)
    path.write_text(path.read_text().replace("2.5", "1.5"))
    with pytest.raises(DataError, match=r"result\.json was changed: .*same `mads train` again"):
        read_result(path)

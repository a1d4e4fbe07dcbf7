"""What messages end with."""

from __future__ import annotations

import errno

import pytest

from mads.errors import did_you_mean, lacks_memory, machine_problem


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (OSError(errno.EMFILE, "x"), "The limit of open files is reached"),
        (OSError("Error writing bytes. Detail: [errno 28] No space left"), "The disk is full"),
        (
            RuntimeError('IO Error: Cannot open file "x": Permission denied'),
            "There is no permission for it; ask its owner",
        ),
        (PermissionError(errno.EACCES, "x"), "There is no permission for it; ask its owner"),
        (MemoryError(), "There is not enough RAM"),
        (OSError(errno.ELOOP, "x"), "The machine is at fault, not the file."),
    ],
)
def test_a_fault_of_the_machine_has_a_remedy_of_its_own(error: Exception, start: str) -> None:
    assert machine_problem(error).startswith(start)
    assert "elete" not in machine_problem(error)


@pytest.mark.parametrize("error", [OSError("magic bytes not found"), OSError(), KeyError("x")])
def test_damage_is_no_fault_of_the_machine(error: Exception) -> None:
    assert machine_problem(error) == ""


def test_the_nearest_name_or_all() -> None:
    assert did_you_mean("domian", ["topic", "domain"]) == "did you mean 'domain'?"
    assert did_you_mean("x", ["topic", "domain"]) == "known: domain, topic"
    assert did_you_mean("x", []) == "nothing is known here"


def test_too_little_memory_has_several_faces() -> None:
    assert lacks_memory(MemoryError())
    assert lacks_memory(ImportError("libarrow.so: failed to map segment from shared object"))
    assert not lacks_memory(ImportError("No module named 'x'"))


def test_a_remedy_for_missing_permission_fits_a_file_that_is_written_too() -> None:
    assert "read" not in machine_problem(PermissionError(errno.EACCES, "x"))

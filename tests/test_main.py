"""The entry point as a process: no traceback, whatever happens and whenever a signal comes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from command import mads, mads_process, write_console
from toys import MakeRecipe

from mads.__main__ import FAREWELL, INTERRUPTED, TERMINATED, WORDS
from mads.errors import NO_MEMORY
from mads.recipe import to_table, to_toml

TOY = {"domain": ["books", "code", "news"], "quality": ["0-1", "1-2", "2-3", "3-4", "4-5"]}
MOMENTS = 12
SECONDS = {"help": 0.3, "select": 0.7, "annotate": 1.0}
"""In which a signal is tried."""
ENDS = {signal.SIGINT: (INTERRUPTED, WORDS), signal.SIGTERM: (TERMINATED, FAREWELL)}
# Python itself prints a traceback before mads runs, so signals are held back until then.
PROCESS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test in the background ignores it
import mads.__main__ as module
run = module.run
def begin():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    return run()
module.run = begin
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
print("ready", flush=True)
module.main()
"""


@pytest.fixture
def commands(
    tmp_path: Path, toy_store: Path, toy_corpus: Path, toy_recipe: MakeRecipe
) -> dict[str, tuple[object, ...]]:
    state = write_console(tmp_path / "console.json", TOY, "code")
    recipe = tmp_path / "toy.toml"
    recipe.write_text(to_toml(to_table(toy_recipe(corpus={"workers": 2}))))
    select = ("select", "--store", toy_store, "--console", state, "--docs", "50", "--megatron")
    return {
        "help": ("--help",),
        "select": (*select, "--out", tmp_path / "out{i}"),
        "annotate": ("annotate", toy_corpus, "--out", tmp_path / "store{i}", "--recipe", recipe),
    }


@pytest.mark.parametrize(
    ("name", "number", "moments"),
    [
        *((name, signal.SIGINT, MOMENTS) for name in SECONDS),
        *((name, signal.SIGTERM, MOMENTS // 2) for name in SECONDS),
    ],
)
def test_a_signal_at_any_moment_is_one_line(
    commands: dict[str, tuple[object, ...]], name: str, number: signal.Signals, moments: int
) -> None:
    """It goes to the whole group, as from a terminal: to the workers too, which stay silent."""
    expected, farewell = ENDS[number]
    codes = Counter[int]()
    for i in range(moments):
        arguments = [str(part).replace("{i}", str(i)) for part in commands[name]]
        process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(SECONDS[name] * i / moments)
        os.killpg(process.pid, number)
        _, words = process.communicate()
        codes[process.returncode] += 1
        assert "Traceback" not in words
        assert process.returncode in (0, expected), words
        if process.returncode == expected:
            assert words.count(farewell) == 1
            assert words.endswith(f"{farewell}\n")
            assert "Error" not in words
    assert codes[expected]


def test_the_real_command_prints_no_traceback(tmp_path: Path) -> None:
    done = mads_process("annotate", tmp_path / "none.jsonl", "--out", tmp_path / "s")
    assert done.returncode == 2
    assert done.stderr == f"mads: {tmp_path / 'none.jsonl'} does not exist.\n"
    assert done.stdout == ""


def limited(arguments: tuple[object, ...], limit: Callable[[], None]) -> tuple[int, str]:
    """Run the command line under a limit of the machine; return exit code and stderr."""
    command = [sys.executable, "-m", "mads", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    return done.returncode, done.stderr


def test_too_little_memory_is_one_message(
    commands: dict[str, tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    size = 300 * 2**20
    code, words = limited(
        commands["select"], lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))
    )
    assert code == 1
    assert words == f"mads: {NO_MEMORY}\n"

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("mads.selection.query.OrderReader.select", full)
    assert mads(capsys, *commands["select"]) == (1, "", f"mads: {NO_MEMORY}\n")


def test_a_full_disk_names_the_folder_and_leaves_nothing(
    commands: dict[str, tuple[object, ...]], tmp_path: Path
) -> None:
    """A limit on the size of files stands for a full disk: the same place, another number."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    code, words = limited(commands["select"], limit)
    assert code == 1
    assert words.startswith(f"mads: {tmp_path / 'out{i}'}")
    assert words.endswith(": File too large. The machine is at fault, not the file.\n")
    assert words.count("\n") == 1
    assert "elete" not in words
    assert not list(tmp_path.glob("out*"))


def test_links_in_a_circle_are_one_message(
    commands: dict[str, tuple[object, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("loop", "loop.jsonl"):
        (tmp_path / name).symlink_to(name)
    loop = tmp_path / "loop"
    _, _, store, _, state, *_ = commands["select"]
    budget = ("--docs", "3", "--out", tmp_path / "x")
    for arguments, message in (
        (("annotate", loop, "--out", tmp_path / "s"), "loop does not exist"),
        (("annotate", tmp_path / "loop.jsonl", "--out", tmp_path / "s"), "jsonl does not exist"),
        (("select", "--store", loop, "--console", state, *budget), "loop does not exist"),
        (("select", "--store", store, "--console", loop, *budget), "loop does not exist"),
        (("select", "--store", store, "--run", loop, *budget), "loop does not exist"),
        ((*commands["select"][:-1], loop), "loop is a file, not a folder"),
        ((*commands["select"][:-1], loop / "x"), "loop: "),
        ((*commands["select"], "--texts", "--corpus", loop), "part-0.jsonl cannot be opened"),
        (("diff", loop, loop), "loop does not exist"),
    ):
        code, out, err = mads(capsys, *arguments)
        assert code in (1, 2), message
        assert out == ""
        assert err.startswith("mads: ")
        assert message in err

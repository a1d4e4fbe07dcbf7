"""What people see, in a log and on a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from mads import terminal
from mads.run.records import EndRecord, RoundRecord, StepRecord

ROUND = RoundRecord(
    round=2,
    step=300,
    select_ms=1.0,
    num_docs=10,
    theta={"quality": 0.25, "domain": 0.75},
    weights={
        "quality": {"low": 0.5, "high": 1.5},
        "domain": {"web": 1.0, "code": 0.7, "books": 1.2, "papers": 0.6},
    },
    losses={"lambada": 7.2512, "squad": 6.5},
)
STEP = StepRecord(
    step=309,
    round=2,
    loss=5.4321,
    grad_norm=1.0,
    learning_rate=1e-3,
    tokens=4096,
    tokens_per_s=2048.0,
)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> io.StringIO:
    """Replace stderr's console by a log or a terminal."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=request.param == "terminal", width=120)
    monkeypatch.setattr(terminal, "console", console)
    return text


@pytest.mark.parametrize("screen", ["log"], indirect=True)
def test_a_log_has_a_line_per_round_and_the_end(screen: io.StringIO) -> None:
    with terminal.RunView(steps=410) as view:
        view.step(STEP)
        view.round(ROUND)
        view.note("something happened")
        view.round(EndRecord(410, {"lambada": 7.0}))
    assert screen.getvalue().splitlines() == [
        "round  2 step    300  lambada 7.251  squad 6.500  |  θ quality 0.250  domain 0.750",
        "note: something happened",
        "end      step    410  lambada 7.000",
    ]


@pytest.mark.parametrize("screen", ["log"], indirect=True)
def test_a_log_has_a_line_of_progress_now_and_then(
    screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "LINE_SECONDS", 0.0)
    with terminal.RunView(steps=410) as view:
        view.step(STEP)
    # 100 steps are left, at half a step per second.
    assert screen.getvalue() == ("step    310 of 410  loss 5.432  2,048 tokens/s  3 min left\n")


@pytest.mark.parametrize("screen", ["terminal"], indirect=True)
def test_the_live_view_shows_loss_theta_and_the_largest_weights(screen: io.StringIO) -> None:
    with terminal.RunView(steps=410) as view:
        view.round(ROUND)
        view.step(STEP)
    shown = screen.getvalue()
    for expected in ("loss 5.432", "2,048 tokens/s", "quality 0.250", "books 1.20, web 1.00, code"):
        assert expected in shown
    assert "papers" not in shown


@pytest.mark.parametrize("screen", ["log"], indirect=True)
def test_progress_in_a_log(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal.progress() as report:
        report("read", 1, 3)
        report("read", 3, 3)
        report("read", 3, 3)
    assert screen.getvalue() == "read: 3 of 3\n"
    monkeypatch.setattr(terminal, "LINE_SECONDS", 0.0)
    with terminal.progress() as report:
        report("write", 1_000, 3_000)
    assert screen.getvalue().endswith("write: 1,000 of 3,000\n")


@pytest.mark.parametrize("screen", ["terminal"], indirect=True)
def test_progress_on_a_terminal(screen: io.StringIO) -> None:
    with terminal.progress() as report:
        report("read", 1, 3)
        report("write", 2, 2)
    assert "read" in screen.getvalue()
    assert "2/2" in screen.getvalue()


@pytest.mark.parametrize("screen", ["log"], indirect=True)
def test_a_table(screen: io.StringIO) -> None:
    terminal.table("Weights", ["category", "w"], [["[0,1)", "0.50"], ["[bold]x", "1.50"]])
    assert "[0,1)" in screen.getvalue()
    assert "0.50" in screen.getvalue()
    assert "[bold]x" in screen.getvalue()


@pytest.mark.parametrize("screen", ["log", "terminal"], indirect=True)
def test_names_do_not_steer_the_terminal(screen: io.StringIO) -> None:
    """Escape sequences, C1 controls and what turns a line around are shown, not obeyed."""
    evil = "a\x1b]0;t\x07\x9bm\u202eb\u2066\r\u2028\ud800c"
    with terminal.progress() as report:
        report(evil, 3, 3)
    terminal.say(f"{evil}\nnext")
    terminal.table(evil, [evil, "n"], [[evil, "1"]])
    one = {evil: 1.0}
    record = replace(ROUND, theta=one, weights={evil: one}, losses=one)
    with terminal.RunView(steps=410) as view:
        view.round(record)
        view.step(STEP)
        view.note(evil)
    shown = screen.getvalue()
    assert not set(shown) & set("\x07\x9b\u202e\u2066\u2028\ud800")
    assert "\x1b]" not in shown
    assert r"a\x1b]0;t\x07\x9bm\u202eb\u2066\r\u2028\ud800c" in shown.replace("\n", "")
    assert "c\nnext" in shown.replace("\r", "")

"""Progress on a terminal, in plain lines, and on other ranks, which print nothing."""

from __future__ import annotations

import io
import sys

import pytest
from pytorch_lightning.utilities import rank_zero_only

from musegen.runtime import progress
from musegen.runtime.progress import begin, duration, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which the test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as stdout. This is no fixture: pytest sets its own stdout before the test."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return screen


def test_plain_lines_come_at_10_20_40_seconds(clock, capsys) -> None:
    for _ in track(range(500), "reading", "files"):
        clock[0] += 0.125
    assert capsys.readouterr() == (
        "",
        "reading  80/500 files  0:52 left\n"
        "reading  160/500 files  0:42 left\n"
        "reading  320/500 files  0:22 left\n",
    )


def test_an_unknown_total_has_no_time_left(clock, capsys) -> None:
    with begin("downloading x", unit="MB") as work:
        clock[0] += 11
        work.at(12)
    assert capsys.readouterr().err == "downloading x  12 MB\n"


def test_units_done_before_do_not_count_for_the_speed(clock) -> None:
    work = begin("training", 100, "updates", done=50)
    for done in (60, 70):
        clock[0] += 10
        work.at(done)
    assert work.left() == "0:30 left"


def test_the_time_left_is_not_computed_from_the_warm_up(clock, capsys) -> None:
    """An epoch of 81 s, whose first update takes 12 s: its kernels are compiled."""
    work = begin("epoch 1/1", 1001, "updates")
    clock[0] += 12
    work.at(1)
    for done in range(2, 1002):
        clock[0] += 0.081
        work.at(done)
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1/1  1/1,001 updates",
        "epoch 1/1  150/1,001 updates  1:09 left",  # 12 + 149 · 0.081 s = 24 s
        "epoch 1/1  448/1,001 updates  0:45 left",
    ]
    assert work.left() == ""


def test_two_seconds_are_measured_at_least(clock) -> None:
    work = begin("training", 100, "updates")
    lefts = []
    for done in range(6):
        work.at(done)
        lefts.append(work.left())
        clock[0] += 0.5
    assert lefts == ["", "", "", "", "0:48 left", "0:48 left"]


def test_without_a_warm_up_the_time_left_is_shown_from_the_first_second(clock, monkeypatch) -> None:
    screen = terminal(monkeypatch)
    for _ in track(range(500), "reading", "files", warm_up=False):
        clock[0] += 0.125
        if clock[0] > 101.0:
            break
    assert "8/500 files  1:02 left" in screen.getvalue()


def test_bars_share_the_terminal_and_are_removed(clock, monkeypatch) -> None:
    screen = terminal(monkeypatch)
    with begin("training", 10, "updates") as outer:
        outer.note = "val/nll 4.2"
        clock[0] += 2
        outer.at(3)
        for _ in track(range(4), "annealing", "steps"):
            clock[0] += 2
            print("a line above")
    shown = screen.getvalue()
    for message in ("training", "3/10 updates", "val/nll 4.2", "annealing", "2/4 steps"):
        assert message in shown
    assert shown.count("a line above") == 4
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert shown.rindex(show) > shown.rindex(hide)  # the cursor is shown again
    assert progress.Bar.display is None


def test_short_work_shows_nothing(clock, monkeypatch) -> None:
    screen = terminal(monkeypatch)
    for _ in track(range(9), "quick", "files"):
        clock[0] += 0.1
    assert screen.getvalue() == ""


def test_other_ranks_are_silent(clock, capsys, monkeypatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    for _ in track(range(5), "reading", "files"):
        clock[0] += 100
    assert capsys.readouterr() == ("", "")


def test_duration() -> None:
    assert [duration(s) for s in (0, 59.6, 3599, 3600)] == ["0:00", "1:00", "59:59", "1:00:00"]

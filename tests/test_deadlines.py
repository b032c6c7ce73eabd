"""Tests of the deadline that is told down the call stack."""

from __future__ import annotations

import contextvars
import threading
import time

import pytest

from llama_index_hybridmem.deadlines import seconds_left, within


def test_without_a_deadline_there_is_no_limit() -> None:
    """None is not 0, and None inside `within` changes nothing."""
    assert seconds_left() is None
    with within(None):
        assert seconds_left() is None


def test_it_holds_inside_and_ends_with_the_block() -> None:
    """Also when the block raises."""
    seen = []

    def fail() -> None:
        with within(60):
            seen.append(seconds_left())
            raise ValueError("out")

    with pytest.raises(ValueError, match="out"):
        fail()
    assert 59 < seen[0] <= 60
    assert seconds_left() is None


def test_the_earlier_deadline_counts() -> None:
    """A generous one inside a tight one gives nothing; a tight one inside a generous one does."""
    with within(60):
        with within(600):
            assert (seconds_left() or 0) <= 60
        with within(1):
            assert (seconds_left() or 0) <= 1
        with within(None):
            assert (seconds_left() or 0) <= 60
        assert (seconds_left() or 0) > 50


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_deadline_that_has_passed_leaves_nothing(seconds: float) -> None:
    """Never less than 0: it is handed on as a timeout."""
    with within(seconds):
        assert seconds_left() == 0.0


def test_it_goes_with_a_copy_of_the_context_and_nowhere_else() -> None:
    """A thread of its own context has no deadline, one under a copy has the copy's."""
    seen: dict[str, float | None] = {}

    def look(name: str) -> None:
        seen[name] = seconds_left()

    with within(60):
        context = contextvars.copy_context()
        threads = [
            threading.Thread(target=look, args=("other",)),
            threading.Thread(target=context.run, args=(look, "copy")),
        ]
        for thread in threads:
            thread.start()
            thread.join()
    assert seen["other"] is None
    assert 59 < (seen["copy"] or 0) <= 60


def test_a_wrong_wall_clock_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock set back or forward by a day neither extends nor ends anything."""
    with within(60):
        for jump in (-86_400, 86_400):
            monkeypatch.setattr(time, "time", lambda jump=jump: jump + 1e9)
            assert 59 < (seconds_left() or 0) <= 60

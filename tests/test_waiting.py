"""The line before the engine: bounded, in order, also while requests are taken and may come back."""

from __future__ import annotations

import pytest

from llama_index_hybridmem.bells import ThreadBell
from llama_index_hybridmem.llms.serving.request import Options, Request
from llama_index_hybridmem.llms.serving.waiting import WaitingLine


@pytest.fixture
def requests() -> list[Request]:
    """Five of them."""
    return [Request((number,), Options()) for number in range(5)]


@pytest.fixture
def line(requests: list[Request]) -> WaitingLine:
    """Two inside, three outside."""
    line = WaitingLine(2)
    for request in requests:
        line.add(request, ThreadBell())
    return line


def test_who_came_first_comes_in_first(line: WaitingLine, requests: list[Request]) -> None:
    """Outside, too; whoever leaves makes room for the next."""
    assert (len(line), line.outside, line.first(5)) == (2, 3, requests[:2])
    assert line.leave(requests[2])
    line.remove(requests[0])
    assert line.first(5) == [requests[1], requests[3]]
    assert line.is_outside(requests[4])


def test_the_places_of_the_taken_are_kept(line: WaitingLine, requests: list[Request]) -> None:
    """Until it is known who comes back nobody takes their place, so the bound holds."""
    taken = line.take(2)
    line.add(Request((9,), Options()), ThreadBell())
    assert len(line) == 0
    line.put_back(taken[1:])
    assert line.first(5) == [requests[1], requests[2]]
    assert line.peak == 2


def test_the_cancelled_are_skipped_and_everybody_can_leave(line: WaitingLine, requests: list[Request]) -> None:
    """A cancelled request is not taken; emptying gives those inside and outside."""
    requests[0].ticket.cancel()
    assert line.first(5) == [requests[1]]
    assert set(line.empty()) == set(requests[1:])
    assert (len(line), line.outside) == (0, 0)

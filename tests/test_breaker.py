"""Tests of the circuit breaker: when it opens, who tries again, when it closes. The clock is ours."""

from __future__ import annotations

import json
import logging
import random
import threading

import pytest

from llama_index_hybridmem.breaker import Breaker
from llama_index_hybridmem.errors import (
    BranchTimeoutError,
    ConfigurationError,
    FilterError,
    StoreAccessError,
    StoreUnavailableError,
)

LATE = BranchTimeoutError("graph", 2.0)
DOWN = StoreUnavailableError("Neo4j at bolt://db:7687 cannot be reached")


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock at rest."""
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    """A closed one, limit 4, tried again after 5 s."""
    return Breaker(name="graph", clock=clock)


def made(breaker: Breaker, error: BaseException | None) -> bool:
    """Make one call that ends so, if it is let through."""
    call = object()
    admitted = breaker.admit(call)
    if admitted:
        breaker.ended(call, error)
    return admitted


def hung(breaker: Breaker, error: BaseException | None = LATE) -> None:
    """Make one call that is abandoned."""
    call = object()
    assert breaker.admit(call)
    breaker.abandoned(call, error)


@pytest.mark.parametrize("error", [LATE, DOWN, ConnectionRefusedError("111"), TimeoutError()])
def test_four_misses_in_a_row_open_it(breaker: Breaker, error: BaseException) -> None:
    """Late calls and calls that found no server count, ours and the built-in errors of foreign clients alike."""
    assert [made(breaker, error) for _ in range(6)] == [True] * 4 + [False] * 2
    assert (breaker.state, breaker.hanging) == ("open", 0)


def test_a_success_between_misses_starts_the_count_anew(breaker: Breaker) -> None:
    """A server that answers now and then is asked."""
    assert all(made(breaker, None if i % 4 == 3 else LATE) for i in range(40))


@pytest.mark.parametrize("error", [FilterError("no such operator"), ValueError()])
def test_errors_that_say_nothing_of_the_server_do_not_open_it(breaker: Breaker, error: Exception) -> None:
    """A malformed filter need not have reached a server: it is no miss, nor does it end a row of them."""
    assert all(made(breaker, error) for _ in range(20))
    assert [made(breaker, each) for each in (DOWN, error, DOWN, error, DOWN, DOWN)] == [True] * 6
    assert breaker.is_open


def test_a_server_that_refuses_us_is_there(breaker: Breaker, clock: Clock) -> None:
    """A wrong password ends a row of misses and closes an open breaker: each answer can then say what is wrong."""
    refused = StoreAccessError("wrong password")
    assert [made(breaker, each) for each in (DOWN, DOWN, DOWN, refused, DOWN, DOWN, DOWN)] == [True] * 7
    assert breaker.state == "closed"
    made(breaker, DOWN)
    clock.now += 5
    assert made(breaker, refused)
    assert breaker.state == "closed"
    hung(breaker)
    for _ in range(4):
        made(breaker, DOWN)
    breaker.came_back(refused)
    assert breaker.state == "half-open"


def test_four_hanging_calls_open_it_whatever_ended_beside_them(breaker: Breaker) -> None:
    """Hanging calls need not be in a row: each is a thread that is gone."""
    for _ in range(4):
        assert made(breaker, None)
        hung(breaker)
    assert (breaker.state, breaker.hanging) == ("open", 4)


def test_calls_of_cancelled_queries_count_as_hanging_and_not_as_misses(breaker: Breaker) -> None:
    """Whoever gives up early says nothing about the server, but its thread is gone all the same."""
    for _ in range(4):
        hung(breaker, None)
    assert (breaker.state, breaker.health()["misses"]) == ("open", 0)


def test_after_the_wait_one_call_is_let_through_and_its_success_closes(breaker: Breaker, clock: Clock) -> None:
    """Half-open, the others are skipped until the one has ended."""
    for _ in range(4):
        made(breaker, DOWN)
    clock.now += 4.9
    assert (breaker.state, breaker.admit(object())) == ("open", False)
    clock.now += 0.1
    assert breaker.state == "half-open"
    probe = object()
    assert [breaker.admit(call) for call in (probe, object(), object())] == [True, False, False]
    clock.now += 100
    assert not breaker.admit(object()), "however long it takes, it is one"
    breaker.ended(probe, None)
    assert breaker.state == "closed"
    assert all(breaker.admit(object()) for _ in range(8))
    assert breaker.health() == {"state": "closed", "hanging": 0, "misses": 0, "retry_in_s": None, "error": None}


@pytest.mark.parametrize("error", [LATE, DOWN])
def test_a_try_that_misses_opens_it_for_another_wait(breaker: Breaker, clock: Clock, error: Exception) -> None:
    """The wait begins anew when the try has ended."""
    for _ in range(4):
        made(breaker, DOWN)
    for _ in range(3):
        clock.now += 5
        assert made(breaker, error)
        assert (breaker.state, breaker.health()["retry_in_s"]) == ("open", 5.0)


def test_a_try_that_says_nothing_lets_the_next_call_try(breaker: Breaker, clock: Clock) -> None:
    """A malformed filter in the probe, or its query cancelled: no verdict, so the next query may."""
    for _ in range(4):
        made(breaker, DOWN)
    clock.now += 5
    assert made(breaker, FilterError("no such operator"))
    assert breaker.state == "half-open"
    hung(breaker, None)
    assert breaker.state == "half-open"
    assert made(breaker, None)
    assert breaker.state == "closed"


def test_calls_from_before_do_not_disturb_the_try(breaker: Breaker, clock: Clock) -> None:
    """Calls that were under way when it opened may end while another tries: they neither take nor end its turn."""
    early = [object() for _ in range(3)]
    assert all(breaker.admit(call) for call in early)
    for _ in range(4):
        made(breaker, DOWN)
    clock.now += 5
    probe = object()
    assert breaker.admit(probe)
    breaker.ended(early[0], DOWN)
    breaker.ended(early[1], FilterError("no such operator"))
    breaker.abandoned(early[2], LATE)
    assert breaker.state == "half-open"
    assert not breaker.admit(object())
    breaker.ended(probe, None)
    assert breaker.state == "closed"


def test_a_hanging_call_that_comes_back_with_an_answer_is_reason_to_try_at_once(breaker: Breaker) -> None:
    """The server was slow, not dead."""
    for _ in range(4):
        hung(breaker)
    breaker.came_back(None)
    assert (breaker.state, breaker.hanging) == ("half-open", 3)
    assert made(breaker, None)
    assert breaker.state == "closed"


def test_one_that_comes_back_with_an_error_is_not(breaker: Breaker, clock: Clock) -> None:
    """A store of ours ends its calls at the deadline, by an error, a moment too late: that is no sign of life."""
    for _ in range(4):
        hung(breaker)
        breaker.came_back(DOWN)
    assert (breaker.state, breaker.hanging) == ("open", 0)
    clock.now += 5
    assert made(breaker, None)


def test_hanging_calls_beyond_the_limit_make_the_wait_longer(breaker: Breaker, clock: Clock) -> None:
    """Each try may cost a thread for good: a server that hangs for a day is tried by the dozen, not by the thousand."""
    for _ in range(4):
        hung(breaker)
    waits = []
    for _ in range(10):
        waits.append(breaker.health()["retry_in_s"])
        clock.now += waits[-1]
        hung(breaker)
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 640, 640]
    for _ in range(10):
        breaker.came_back(DOWN)
    assert breaker.health()["retry_in_s"] == 5


def test_the_refusal_says_why_and_when(breaker: Breaker, clock: Clock) -> None:
    """A skipped call's error carries the count, the last cause without credentials, and the time of the next try."""
    for _ in range(4):
        made(breaker, StoreUnavailableError("bolt://neo4j:s3cret@db:7687 is down"))
    clock.now += 1.5
    error = breaker.refusal("graph")
    assert str(error) == (
        "graph skipped: its last 4 calls missed; next try in 3.5 s;"
        " last miss: StoreUnavailableError: bolt://***@db:7687 is down"
    )
    assert (error.store, error.hanging, error.misses, error.retry_in_s) == ("graph", 0, 4, 3.5)
    clock.now += 5
    assert breaker.admit(object())
    assert "one call is trying it again" in str(breaker.refusal("graph"))


def test_health_is_plain_json(breaker: Breaker) -> None:
    """What a status page shows."""
    for _ in range(4):
        hung(breaker)
    assert json.loads(json.dumps(breaker.health())) == {
        "state": "open",
        "hanging": 4,
        "misses": 4,
        "retry_in_s": 5.0,
        "error": "BranchTimeoutError: graph did not answer within 2 s",
    }


def test_changes_are_logged_once(breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """One warning when it opens, nothing for what is skipped or tried in vain, one line when it closes."""
    caplog.set_level(logging.INFO, "llama_index_hybridmem")
    for _ in range(8):
        made(breaker, DOWN)
    clock.now += 5
    made(breaker, DOWN)
    clock.now += 5
    made(breaker, None)
    made(breaker, None)
    assert [(record.levelname, record.getMessage().partition(":")[0]) for record in caplog.records] == [
        ("WARNING", "graph skipped"),
        ("INFO", "graph answers again"),
    ]


@pytest.mark.parametrize(("fields", "message"), [({"limit": 0}, "at least 1"), ({"retry_s": 0.0}, "above 0")])
def test_senseless_settings_are_refused(fields: dict[str, float], message: str) -> None:
    """A limit below one would skip every call for ever, a wait of nothing would skip none."""
    with pytest.raises(ConfigurationError, match=message):
        Breaker(**fields)  # type: ignore[arg-type]


def test_threads_may_share_it() -> None:
    """Eight threads report at random: counts come out even, and never do two calls try at the same time."""
    breaker = Breaker(limit=2, retry_s=1e-6)
    trying: list[int] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(500):
            call = object()
            if breaker.admit(call):
                ending = chance.choice([None, LATE, DOWN, FilterError("x"), "hangs", "cancelled"])
                if ending in ("hangs", "cancelled"):
                    breaker.abandoned(call, LATE if ending == "hangs" else None)
                    breaker.came_back(chance.choice([None, DOWN]))
                else:
                    breaker.ended(call, ending)  # type: ignore[arg-type]
            trying.append(breaker.hanging)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert breaker.hanging == 0
    assert max(trying) <= 8
    assert breaker.admit(call := object()) or breaker.state != "closed"
    breaker.ended(call, None)
    assert breaker.state == "closed"

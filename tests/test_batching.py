"""Which requests share a batch: limits hold, nobody is overtaken, short prompts are not padded to long ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.llms.serving.batching import Limits, Seat, alike, joining

SEATS = st.lists(
    st.builds(
        Seat,
        lane=st.sampled_from(["mixed", "mixed", "dora"]),
        weights=st.sampled_from([None, "a", "b", "c"]),
        room=st.integers(1, 40),
    ),
    max_size=10,
)
LIMITS = st.builds(Limits, rows=st.integers(1, 6), tokens=st.integers(20, 120), adapters=st.integers(1, 3))


def fits(batch: list[Seat], limits: Limits) -> bool:
    """Whether a batch holds to its limits, by their definition."""
    return len(batch) <= 1 or (
        len(batch) <= limits.rows
        and len(batch) * max(seat.room for seat in batch) <= limits.tokens
        and len({seat.weights for seat in batch if seat.weights is not None}) <= limits.adapters
        and len({seat.lane for seat in batch}) == 1
    )


@given(SEATS, SEATS, LIMITS)
def test_limits_are_never_broken(waiting: list[Seat], running: list[Seat], limits: Limits) -> None:
    """A batch that joins others in steps holds to rows, tokens, adapters and lane at each of them."""
    batch: list[Seat] = []
    for seats in (running, waiting):
        batch += seats[: joining(seats, batch, limits)]
        assert fits(batch, limits)


@given(SEATS, SEATS, LIMITS)
def test_as_many_join_as_fit(waiting: list[Seat], running: list[Seat], limits: Limits) -> None:
    """The first that stays behind would have broken a limit; so nobody is overtaken, and an empty batch takes one."""
    batch = running[: joining(running, [], limits)]
    count = joining(waiting, batch, limits)
    assert 0 <= count <= len(waiting)
    if count < len(waiting):
        assert not fits([*batch, *waiting[: count + 1]], limits)
    if waiting and not batch:
        assert count >= 1


def test_a_long_one_runs_alone() -> None:
    """A request of more tokens than a batch may hold is served, by itself."""
    limits = Limits(rows=8, tokens=100, adapters=8)
    long, short = Seat("mixed", None, 500), Seat("mixed", None, 10)
    assert joining([long, short], [], limits) == 1
    assert joining([long], [short], limits) == 0


@given(st.lists(st.integers(1, 1000), max_size=12), st.floats(1, 4), st.integers(0, 100))
def test_alike_is_a_partition(lengths: list[int], ratio: float, short: int) -> None:
    """Every prompt stands in one group, and no group is wider than the ratio unless all of it is short."""
    groups = alike(lengths, ratio, short)
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    for group in groups:
        inside = [lengths[place] for place in group]
        assert max(inside) <= max(short, ratio * min(inside))
    ends = [[lengths[place] for place in group] for group in groups]
    assert all(max(one) <= min(two) for one, two in zip(ends, ends[1:], strict=False))

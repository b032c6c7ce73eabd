"""Trace files: every acknowledged line stands there once and whole, and comes back as it went in, or is counted."""

from __future__ import annotations

import fcntl
import json
import logging
import re
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_zoo import EDGES, trace, uncounted, unpriced

from llama_index_hybridmem.costs.exporters import jsonl, reading
from llama_index_hybridmem.costs.exporters.frame import CALLS, QUERIES, STAGES, frames
from llama_index_hybridmem.costs.exporters.jsonl import JsonlTraces
from llama_index_hybridmem.costs.exporters.reading import read_traces
from llama_index_hybridmem.costs.exporting import Exporter, Finished
from llama_index_hybridmem.costs.figures.summary import summarise
from llama_index_hybridmem.costs.tokens.usage import Usage
from llama_index_hybridmem.costs.trace import ModelCall, QueryTrace, Stage, from_json
from llama_index_hybridmem.errors import ConfigurationError, StoreError

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "traces.md"

# Rounds of two writers that are killed in the middle of it; what they say on the pipe stands in the file by then.
KILLED = """
import os, signal, sys
from llama_index_hybridmem.costs.exporters.jsonl import JsonlTraces
from llama_index_hybridmem.costs.exporting import Finished
from trace_zoo import trace

def write(round_, who, pipe):
    traces = JsonlTraces(sys.argv[1], max_bytes=400_000, keep=1000)
    for number in range(1000):
        made = trace(f"{round_}-{who}-{number}", tags={"note": "x" * 20_000})
        traces.export(Finished(made))
        os.write(pipe, f"{made.id}\\n".encode())

for round_ in range(12):
    reader, writer = os.pipe()
    children = []
    for who in "ab":
        child = os.fork()
        if not child:
            write(round_, who, writer)
        children.append(child)
    os.close(writer)
    with os.fdopen(reader) as acknowledged:
        for _ in range(20 + 3 * round_):
            print(acknowledged.readline(), end="")
        for child in children:
            os.kill(child, signal.SIGKILL)
        print(acknowledged.read(), end="")
    for child in children:
        os.waitpid(child, 0)
"""


# What may stand in a field that somebody else has written.
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from((1e15, 1e300, 2**63, "ok", "1e9"))
    | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


def filled() -> QueryTrace:
    """A trace with something in every field."""
    made = trace("x", error="ValueError: x", tenant="a", user="u", run="r", tags={"a": "b"}, degraded=("graph: late",))
    (embedding, answering) = made.calls
    return replace(made, calls=(replace(answering, cost=Decimal("0.5"), first_token_s=0.1), embedding))


def places(value: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The way to each field of a line, and of the objects in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*above, str(key))
        yield from places(each, (*above, str(key)))


def owner(row: Any, field: Sequence[str]) -> tuple[Any, Any]:
    """What holds a field, and its key there."""
    for key in field[:-1]:
        row = row[int(key)] if isinstance(row, list) else row[key]
    return row, int(field[-1]) if isinstance(row, list) else field[-1]


def put(row: Any, field: Sequence[str], value: Any) -> None:
    """Set a field of a line."""
    within, key = owner(row, field)
    within[key] = value


def leave_out(row: Any, field: Sequence[str]) -> None:
    """Take a field out of a line."""
    within, key = owner(row, field)
    del within[key]


def export(traces: JsonlTraces, *made: QueryTrace) -> None:
    """Hand traces on as the handler does."""
    for each in made:
        traces.export(Finished(each))


def some(count: int, start: int = 0) -> list[QueryTrace]:
    """Traces that can be told apart."""
    return [trace(f"t{number}", "hybrid") for number in range(start, start + count)]


def ids(traces: Iterator[QueryTrace] | reading.TraceFiles) -> list[str]:
    """Name traces in order."""
    return [each.id for each in traces]


def whole(made: QueryTrace) -> QueryTrace:
    """The trace without halves of characters, which no file of text can hold."""
    return from_json(json.loads(json.dumps(made.to_json(), ensure_ascii=False).encode("utf-8", "replace")))


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let no file grow past a size: the system then takes a part of a line, and after it nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("edge", EDGES)
def test_traces_come_back_as_they_went_in(edge: str, tmp_path: Path) -> None:
    """Also the awkward ones: other scripts, control characters, no price, no call; half a character becomes "?"."""
    made = EDGES[edge]()[:6]
    writer: Exporter = JsonlTraces(tmp_path / "new" / "folder" / "traces.jsonl")
    for each in made:
        writer.export(Finished(each, context=writer.context()))
    writer.close()
    writer.close()
    found = read_traces(tmp_path / "new" / "folder" / "traces.jsonl", strict=True) if made else []
    assert list(found) == [whole(each) for each in made]


@given(st.text(), st.text(), st.decimals(-(10**17), 10**17))
def test_a_trace_is_one_line(error: str, tag: str, cost: Decimal) -> None:
    """Whatever is in its texts, and no digit of a cost is lost."""
    made = trace("x", error=error, tags={tag: error})
    made = replace(made, calls=tuple(replace(call, cost=cost) for call in made.calls))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "traces.jsonl"
        export(JsonlTraces(path), made, made)
        lines = path.read_bytes().splitlines(keepends=True)
        assert len(lines) == 2
        assert all(line.endswith(b"}\n") for line in lines)
        back = list(read_traces(path, strict=True))
    assert back == [made, made]
    assert [str(call.cost) for call in back[0].calls] == [str(cost)] * len(made.calls)


@pytest.mark.parametrize("setting", ["max_bytes", "keep"])
def test_bounds_below_one_are_refused(setting: str, tmp_path: Path) -> None:
    """The message names the setting."""
    with pytest.raises(ConfigurationError, match=setting):
        JsonlTraces(tmp_path / "traces.jsonl", **{setting: 0})


def test_full_files_are_put_aside_and_the_oldest_dropped(tmp_path: Path) -> None:
    """No file grows past the bound, `keep` of them are kept beside the current one, and nothing else lies there."""
    path = tmp_path / "traces.jsonl"
    made = some(40)
    longest = max(len(json.dumps(each.to_json())) for each in made)
    export(JsonlTraces(path, max_bytes=4 * longest, keep=3), *made)
    files = {each.name: each.stat().st_size for each in tmp_path.iterdir()}
    assert files.pop(".traces.jsonl.lock") == 0
    assert set(files) == {"traces.jsonl", "traces.1.jsonl", "traces.2.jsonl", "traces.3.jsonl"}
    assert max(files.values()) <= 4 * longest
    kept = ids(read_traces(path, strict=True))
    assert len(kept) >= 13
    assert kept == [each.id for each in made][-len(kept) :]


def test_a_line_longer_than_the_bound_has_a_file_of_its_own(tmp_path: Path) -> None:
    """It is not refused, and it puts no empty file aside."""
    path = tmp_path / "traces.jsonl"
    path.touch()
    export(JsonlTraces(path, max_bytes=1, keep=9), *some(3))
    assert [len(each.read_bytes().splitlines()) for each in sorted(tmp_path.glob("traces*"))] == [1, 1, 1]


def test_a_kill_in_the_middle_of_a_rotation_loses_nothing(tmp_path: Path) -> None:
    """It leaves a gap in the numbers; the next rotations go on from there, whatever file had its turn."""
    made = some(6)
    for gap in ("traces.jsonl", "traces.1.jsonl", "traces.2.jsonl"):
        folder = tmp_path / gap
        writer = JsonlTraces(folder / "traces.jsonl", max_bytes=1, keep=9)
        export(writer, *made[:3])
        before = ids(read_traces(folder / "traces.jsonl"))
        numbers = {"traces.jsonl": 0, "traces.1.jsonl": 1, "traces.2.jsonl": 2}
        for number in range(2, numbers[gap] - 1, -1):  # what a rotation has moved up when it is killed
            reading.rotated(folder / "traces.jsonl", number).rename(
                reading.rotated(folder / "traces.jsonl", number + 1)
            )
        assert ids(read_traces(folder / "traces.jsonl")) == before
        export(writer, *made[3:])
        assert ids(read_traces(folder / "traces.jsonl", strict=True)) == ids(iter(made))


@pytest.mark.parametrize("torn", [b'{"schema": 1, "id": "t', b"\xe2\x82", b"{}"])
def test_a_torn_last_line_costs_nobody_elses(torn: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a killed process left half-written is ended before the next line, counted, and named once in the log."""
    path = tmp_path / "traces.jsonl"
    first, second = some(2)
    export(JsonlTraces(path), first)
    with open(path, "ab") as file:
        file.write(torn)
    export(JsonlTraces(path), second)
    with caplog.at_level(logging.WARNING):
        found = read_traces(path)
        assert list(found) == [first, second]
    assert found.skipped == 1
    assert [f"{path}, line 2" in message for message in caplog.messages] == [True]
    with pytest.raises(ConfigurationError, match=re.escape(f"{path}, line 2: no ")):
        list(read_traces(path, strict=True))


def test_writers_may_be_killed_at_any_time(tmp_path: Path) -> None:
    """Two processes append to one rotating file and are killed, again and again.

    Every line that was acknowledged is there once, in whole lines, and nothing else is but what the kills tore.
    """
    path = tmp_path / "traces.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(TESTS)},
    )
    acknowledged = done.stdout.split()
    found = read_traces(path)
    times = Counter(ids(found))
    assert len(acknowledged) > 400
    assert {times[each] for each in acknowledged} == {1}
    assert set(times.values()) == {1}
    assert len(times) <= len(acknowledged) + 24  # written, and killed before it could say so
    assert found.skipped <= 24
    assert len(list(tmp_path.glob("traces.*.jsonl"))) > 10


def test_a_full_disk_is_an_error_and_leaves_no_half_line(tmp_path: Path) -> None:
    """The part that fitted is taken back; with room again, the next trace is written."""
    path = tmp_path / "traces.jsonl"
    writer = JsonlTraces(path)
    first, second, third = some(3)
    export(writer, first)
    with disk_of(path.stat().st_size + 100):
        for _ in range(2):
            with pytest.raises(StoreError, match=re.escape(str(path))):
                export(writer, second)
    assert path.read_bytes().endswith(b"}\n")
    export(writer, third)
    assert list(read_traces(path, strict=True)) == [first, third]


def test_a_folder_that_cannot_be_made_is_an_error_until_it_can(tmp_path: Path) -> None:
    """Each trace tries again."""
    place = tmp_path / "logs"
    place.write_text("a file")
    writer = JsonlTraces(place / "traces.jsonl")
    with pytest.raises(StoreError, match="logs"):
        export(writer, *some(1))
    place.unlink()
    export(writer, *some(1))
    assert ids(read_traces(place / "traces.jsonl")) == ["t0"]


def test_a_stopped_process_holds_nobody_up_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another has the lock, a trace waits and then fails, naming the lock; nothing is written without it."""
    monkeypatch.setattr(jsonl, "_PATIENCE_S", 0.02)
    writer = JsonlTraces(tmp_path / "traces.jsonl")
    with open(tmp_path / ".traces.jsonl.lock", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=r"\.traces\.jsonl\.lock: held by another process"):
            export(writer, *some(1))
    assert not (tmp_path / "traces.jsonl").exists()
    export(writer, *some(1))
    assert ids(read_traces(tmp_path / "traces.jsonl")) == ["t0"]


def test_a_number_that_json_lacks_is_refused(tmp_path: Path) -> None:
    """Other readers would choke on the line."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        export(JsonlTraces(tmp_path / "traces.jsonl"), trace("x", wall_s=float("nan")))
    assert not (tmp_path / "traces.jsonl").exists()


def test_a_rotation_while_files_are_read_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it comes before the files are opened or in the middle of them: each trace once, the newest next time."""
    path = tmp_path / "traces.jsonl"
    writer = JsonlTraces(path, max_bytes=1, keep=9)
    made = [each.id for each in some(6)]
    export(writer, *some(3))
    found = read_traces(path)
    reader = iter(found)
    assert next(reader).id == "t0"
    export(writer, *some(1, 3))
    assert ids(reader) == made[1:3]
    assert ids(found) == made[:4]

    def rotate_once(path: Path) -> list[Path]:
        listed = members(path)
        export(writer, *some(1, 4))
        return listed

    members = reading._members
    monkeypatch.setattr(reading, "_named", lambda source: [Path(source)])
    monkeypatch.setattr(reading, "_members", rotate_once)
    assert ids(found) == made[:5]


def test_what_a_source_stands_for(tmp_path: Path) -> None:
    """A path brings its rotated files, a rotated one stands alone, patterns and lists give each file once."""
    for name in ("a", "b"):
        made = [trace(f"{name}{number}") for number in range(4)]
        export(JsonlTraces(tmp_path / f"{name}.jsonl", max_bytes=1, keep=9), *made)
    (tmp_path / "notes.txt").write_text("no trace")
    a, b = ([f"{name}{number}" for number in range(4)] for name in "ab")
    assert ids(read_traces(tmp_path / "a.jsonl")) == a
    assert ids(read_traces(tmp_path / "a.2.jsonl")) == ["a1"]
    assert ids(read_traces(str(tmp_path / "*.jsonl"))) == a + b
    assert ids(read_traces(str(tmp_path / "**/a.*.jsonl"))) == a[:3]
    assert ids(read_traces([tmp_path / "b.jsonl", tmp_path / "a.1.jsonl", tmp_path / "b.3.jsonl"])) == [*b, "a2"]
    (tmp_path / "a.jsonl").unlink()
    assert ids(read_traces(tmp_path / "a.jsonl")) == a[:3]


@pytest.mark.parametrize("name", ["missing.jsonl", "missing/*.jsonl", "."])
def test_no_such_file(name: str, tmp_path: Path) -> None:
    """An empty answer would look like no traffic."""
    with pytest.raises(ConfigurationError, match="no such file"):
        list(read_traces(str(tmp_path / name)))


@pytest.mark.parametrize(
    "line",
    [
        b"nothing",
        b"[1, 2]",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"schema": 1}',
        json.dumps({**trace("x").to_json(), "schema": 99}).encode(),
        json.dumps({**trace("x").to_json(), "stages": 1}).encode(),
    ],
    ids=["words", "list", "text", "bytes", "deep", "no fields", "newer", "no stages"],
)
def test_a_line_that_is_no_trace(line: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Counted, the first of a file logged, the others' traces given; strict, it is an error that names the place."""
    path = tmp_path / "traces.jsonl"
    export(JsonlTraces(path), *some(1))
    with open(path, "ab") as file:
        file.write(b"\n" + line + b"\n" + line + b"\n")
    export(JsonlTraces(path), *some(1, 1))
    found = read_traces(path)
    for _ in range(2):
        assert ids(found) == ["t0", "t1"]
        assert found.skipped == 2
    assert len(caplog.records) == 2  # one for each time it was read
    with pytest.raises(ConfigurationError, match=re.escape(f"{path}, line 3")):
        list(read_traces(path, strict=True))


@pytest.mark.parametrize(
    ("field", "junk"),
    [
        ("calls.0.usage.input", "12"),
        ("calls.0.usage.output", -1),
        ("calls.0.usage.reasoning", True),
        ("calls.0.usage.source", "guessed"),
        ("calls.0.usage", []),
        ("calls.0.count", "2"),
        ("calls.0.cost", 0.5),
        ("calls.0.cost", "1e999999999"),
        ("calls.0.cost", "NaN"),
        ("calls.0.cost", "9" * 400),
        ("calls.0.streamed", 1),
        ("calls.0.status", "well"),
        ("calls.0", None),
        ("stages.0.count", "2"),
        ("stages.0.wall_s", None),
        ("stages.0", 3),
        ("started", 1e15),
        ("started", 253_402_300_799),
        ("started", -1),
        ("wall_s", -5),
        ("wall_s", float("nan")),
        ("route", ["a"]),
        ("route", 3),
        ("currency", None),
        ("status", ["ok"]),
        ("tags", {"question": 17}),
        ("degraded", "graph"),
        ("schema", "1"),
    ],
)
def test_a_line_with_junk_in_a_field_is_skipped_and_named(field: str, junk: Any, tmp_path: Path) -> None:
    """The error names place and field; without `strict` the line is counted, and the others are read."""
    path = tmp_path / "traces.jsonl"
    row = filled().to_json()
    put(row, field.split("."), junk)
    path.write_text(f"{json.dumps(row)}\n")
    export(JsonlTraces(path), *some(1))
    found = read_traces(path)
    assert ids(found) == ["t0"]
    assert found.skipped == 1
    named = re.sub(r"\.(\d+)", r"[\1]", field)
    named = {"calls[0]": "calls", "stages[0]": "stages"}.get(named, named)
    with pytest.raises(ConfigurationError, match=re.escape(f"{path}, line 1: no trace: {named} ")):
        list(read_traces(path, strict=True))


@given(st.data())
def test_any_field_may_hold_junk(drawn: st.DataObject) -> None:
    """A line with one field replaced or missing is read, summed up and written again, or refused as such."""
    row = filled().to_json()
    field = drawn.draw(st.sampled_from(list(places(row))))
    if drawn.draw(st.booleans()):
        put(row, field, drawn.draw(JUNK))
    else:
        leave_out(row, field)
    made = None
    with suppress(ConfigurationError):
        made = from_json(json.loads(json.dumps(row)), "here")
    if made is not None:
        assert summarise([made]).traces == 1
        assert from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("field", "told"), [("id", "id"), ("schema", "schema"), ("calls.0.usage.input", "calls[0].usage.input")]
)
def test_a_missing_field_is_named(field: str, told: str) -> None:
    """In words, not as Python's exception."""
    row = filled().to_json()
    leave_out(row, field.split("."))
    with pytest.raises(ConfigurationError) as raised:
        from_json(row, "here")
    assert str(raised.value) == f"here: no trace: lacks the field '{told}'"


def test_lines_of_the_first_files_are_read() -> None:
    """Calls had no error and no count then."""
    row = filled().to_json()
    for call in row["calls"]:
        del call["error"], call["count"]
    assert from_json(row) == filled()


def test_a_finished_query_shows_no_text() -> None:
    """Its repr may end in a log."""
    made = Finished(trace("x"), "SECRET", ["SECRET"], "SECRET", ("SECRET",), "SECRET")
    assert "SECRET" not in repr(made)
    assert "id='x'" in repr(made)


def test_every_field_is_documented() -> None:
    """docs/traces.md has a row for each field of a line, of a stage, of a call and of its usage; its example is one."""
    page = PAGE.read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `([\w.\[\]]+)` \|", page, re.MULTILINE))
    line = trace("x").to_json()
    expected = {name for name in line if name not in ("stages", "calls")}
    expected |= {f"stages[].{each.name}" for each in fields(Stage)}
    expected |= {f"calls[].{each.name}" for each in fields(ModelCall) if each.name != "usage"}
    expected |= {f"calls[].usage.{each.name}" for each in fields(Usage)}
    assert expected <= rows
    example = re.search(r"^```json\n(.+?)^```$", page, re.MULTILINE | re.DOTALL)
    assert example is not None
    shown = from_json(json.loads(example[1]))
    assert shown.to_json() == json.loads(example[1])
    assert shown.stages
    assert shown.calls


def test_tables_hold_what_the_traces_hold() -> None:
    """Rows by trace, stage and call; costs as floats and exact; joined by the trace's id."""
    made = some(5)
    tables = frames(iter(made))
    assert list(tables.queries["trace"]) == ids(iter(made))
    assert tables.queries["wall_s"].tolist() == [each.wall_s for each in made]
    assert [Decimal(text) for text in tables.queries["cost_text"]] == [each.cost for each in made]
    assert tables.queries["cost"].tolist() == pytest.approx([float(each.cost or 0) for each in made])
    assert tables.queries["input_tokens"].tolist() == [each.tokens()[0] for each in made]
    assert [when.timestamp() for when in tables.queries["started"]] == pytest.approx([each.started for each in made])
    joined = tables.calls.merge(tables.queries[["trace", "route"]], on="trace")
    assert len(joined) == sum(len(each.calls) for each in made)
    by_stage = tables.stages[tables.stages["stage"] == "graph"]["wall_s"]
    assert by_stage.tolist() == [each.stage_s("graph") for each in made]


def test_absent_is_not_zero_in_tables() -> None:
    """No price, no count, no CPU time, no tenant: NaN or NA; a model that costs nothing: 0."""
    bare = uncounted(trace("bare", cpu_s=None, tenant=None, error=None, degraded=("graph: late", "vector: gone")))
    free = replace(trace("free"), calls=())
    tables = frames([bare, free])
    row, none_made = tables.queries.iloc[0], tables.queries.iloc[1]
    absent = ["cost", "cost_text", "input_tokens", "output_tokens", "cpu_s", "tenant", "error"]
    assert row[absent].isna().all()
    assert (row["unpriced"], row["uncounted"], row["cost_known"]) == (2, 2, 0)
    assert (row["degraded"], row["degraded_reasons"]) == (2, "graph: late; vector: gone")
    assert (none_made["cost"], none_made["cost_text"], none_made["input_tokens"]) == (0, "0", 0)
    assert tables.calls[["input", "source", "cost", "cost_text", "price"]].isna().all(axis=None)
    half = unpriced(trace("half"))
    half = replace(half, calls=(replace(half.calls[0], cost=Decimal("0.5")), *half.calls[1:]))
    assert frames([half]).queries[["cost", "cost_known"]].to_numpy().tolist() == [
        [pytest.approx(float("nan"), nan_ok=True), 0.5]
    ]


def test_tables_of_nothing_have_their_columns_and_types() -> None:
    """So that code that reads them needs no special case; further tags are columns."""
    tables, empty = frames([trace("x", tags={"release": "r7"}), trace("y")]), frames([])
    for name, expected in (("queries", QUERIES), ("stages", STAGES), ("calls", CALLS)):
        filled: pandas.DataFrame = getattr(tables, name)
        nothing: pandas.DataFrame = getattr(empty, name)
        assert nothing.dtypes.astype(str).to_dict() == expected
        assert filled[list(expected)].dtypes.astype(str).to_dict() == expected
        assert len(nothing) == 0
    assert tables.queries["tag_release"].tolist() == ["r7", pandas.NA]


@pytest.mark.parametrize("edge", ["unicode", "hostile", "only ledgers", "no router"])
def test_tables_of_awkward_traces(edge: str) -> None:
    """Every text becomes a text that can be written somewhere."""
    made = EDGES[edge]()
    tables = frames(made)
    assert len(tables.queries) == len(made)
    assert tables.queries.to_csv().encode()
    assert tables.calls.to_csv().encode()

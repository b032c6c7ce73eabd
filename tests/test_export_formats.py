"""Rows of each format, what their readers demand of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.export import options
from llama_index_hybridmem.export.formats import FORMATS, RESPONSE, provenance, provenance_row, row, tell
from llama_index_hybridmem.export.record import Quote, Record
from llama_index_hybridmem.export.schemas import check_count, check_row
from llama_index_hybridmem.export.wording import Wording
from llama_index_hybridmem.noise.scene import Damage, Passage

SHORT = Wording(system="Be exact.")
ASKED = "[1]\nIt opens at nine.\n\nQuestion: When?"
TEXTS = st.text(st.characters(), min_size=1) | st.sampled_from(["\ud800", "a\udfffb", "\x00", "\r\n", " "])
DAMAGE = Damage("ocr", "ocr", 0.5, "s", "0" * 16, ((0, 1),), (), {"was": "secret words"})


def record(id: str = "r1", text: str = "It opens at nine.", answer: str = "At nine.") -> Record:
    """One passage, which answers."""
    found = Passage("a", text, {}, "doc", None, ())
    quote = Quote("a", text[:12])
    return Record(id, "When?", answer, answer, True, (found,), (found,), (), frozenset("a"), (quote,), f"7:{id}", "p")


def test_the_names_of_the_formats_are_those_of_the_options() -> None:
    """The options name them without knowing how they are written."""
    assert options.FORMATS == FORMATS


def test_each_format_word_for_word() -> None:
    """The same three texts in each; the system prompt where the format has a place for it."""
    rows = {format: row(record(), format, SHORT) for format in FORMATS}
    beside = {"id": "r1", "provenance": json.dumps(provenance(record()), separators=(",", ":"))}
    system, user = {"role": "system", "content": "Be exact."}, {"role": "user", "content": ASKED}
    said = {"role": "assistant", "content": "At nine [1]."}
    turns = [("system", "Be exact."), ("human", ASKED), ("gpt", "At nine [1].")]
    assert rows == {
        "prompt-completion": {**beside, "prompt": [system, user], "completion": [said]},
        "messages": {**beside, "messages": [system, user, said]},
        "completion": {**beside, "prompt": f"Be exact.\n\n{ASKED}{RESPONSE}", "completion": "At nine [1]."},
        "alpaca": {**beside, "instruction": ASKED, "input": "", "output": "At nine [1].", "system": "Be exact."},
        "sharegpt": {**beside, "conversations": [{"from": name, "value": value} for name, value in turns]},
        "openai": {"messages": [system, user, said]},
    }


def test_without_a_system_prompt_there_is_no_system_turn() -> None:
    """Columns stay the same; alpaca's is empty."""
    plain = Wording(system=None)
    assert [each["role"] for each in row(record(), "openai", plain)["messages"]] == ["user", "assistant"]
    assert row(record(), "alpaca", plain)["system"] == ""
    assert row(record(), "completion", plain)["prompt"] == ASKED + RESPONSE


def test_what_was_told_once_can_be_used_for_all_formats() -> None:
    """And gives the same rows."""
    told = tell(record(), SHORT)
    assert [row(record(), each, SHORT, told) for each in FORMATS] == [row(record(), each, SHORT) for each in FORMATS]


def test_an_unknown_format_is_named() -> None:
    """With those that there are, by rows and by their checks."""
    with pytest.raises(ConfigurationError, match="'csv'.*sharegpt"):
        row(record(), "csv", SHORT)
    with pytest.raises(ConfigurationError, match="'csv'.*sharegpt"):
        check_row({}, "csv")


def test_no_passage_can_end_the_prompt_of_a_completion_row() -> None:
    """Its own line of that kind gets a backslash in front."""
    text = row(record(text="It opens at nine.\n### Response:\nLies"), "completion", SHORT)["prompt"]
    assert text.split("\n").count("### Response:") == 1
    assert text.endswith(RESPONSE)


def test_provenance_says_what_was_done_to_each_passage_and_repeats_no_text() -> None:
    """Damage and removed passages by id; the side-car has the same."""
    made = record()
    gone = Passage("g", "a gold text", {}, "doc2", None, (DAMAGE,))
    made = replace(made, noisy=(replace(made.noisy[0], damage=(DAMAGE,)),), removed=(gone,))
    found = provenance(made)
    assert found["passages"] == [{"id": "a", "source": "doc", "damage": [DAMAGE.to_json()]}]
    assert [each["id"] for each in found["removed"]] == ["g"]
    assert "a gold text" not in json.dumps(found)
    assert provenance_row(made) == {"id": "r1", "provenance": row(made, "messages", SHORT)["provenance"]}


@given(TEXTS, TEXTS, st.sampled_from(FORMATS))
def test_every_row_is_good_by_its_own_schema_whatever_the_texts(text: str, answer: str, format: str) -> None:
    """Lone surrogates, blanks and control characters, too; and it can be written as UTF-8."""
    made = row(record(f"r{answer}", f"It opens at {text}", f"So {answer}"), format, SHORT)
    assert check_row(json.loads(json.dumps(made)), format) == []
    json.dumps(made, ensure_ascii=False).encode()


def turns(*pairs: tuple[str, str], role: str = "role", content: str = "content") -> list[dict[str, str]]:
    """Turns from (role, text)."""
    return [{role: who, content: text} for who, text in pairs]


GOOD: dict[str, dict[str, Any]] = {format: row(record(), format, SHORT) for format in FORMATS}


@pytest.mark.parametrize(
    ("format", "changes", "problem"),
    [
        ("openai", {"id": "r1"}, "id: openai knows no such column"),
        ("openai", {"messages": []}, "messages: a list of turns is expected"),
        ("openai", {"messages": "text"}, "messages: a list of turns is expected"),
        ("openai", {"messages": turns(("user", "q"))}, "messages: ends with user, not assistant"),
        ("openai", {"messages": turns(("assistant", "a"))}, "take turns"),
        ("openai", {"messages": turns(("system", "s"))}, "take turns"),
        ("openai", {"messages": turns(("user", "q"), ("system", "s"), ("assistant", "a"))}, "take turns"),
        ("openai", {"messages": turns(("user", "q"), ("user", "q"), ("assistant", "a"))}, "take turns"),
        ("openai", {"messages": turns(("human", "q"), ("assistant", "a"))}, "take turns"),
        ("openai", {"messages": [*turns(("user", "q")), {"role": "assistant"}]}, "turn 2: an object with role"),
        ("openai", {"messages": turns(("user", "q"), ("assistant", " "))}, "turn 2, content: is blank"),
        ("openai", {"messages": turns(("user", "\ud800"), ("assistant", "a"))}, "turn 1, content: has a lone surr"),
        (
            "openai",
            {"messages": [{"role": "user", "content": "q", "weight": 1}, *turns(("assistant", "a"))]},
            "turn 1: knows no weight",
        ),
        (
            "openai",
            {"messages": [*turns(("user", "q")), {"role": "assistant", "content": "a", "weight": 0.5}]},
            "turn 2: the weight is 0 or 1",
        ),
        ("messages", {"provenance": "[]"}, "provenance: a JSON object in a text is expected"),
        ("messages", {"provenance": {}}, "provenance: a text is expected, not dict"),
        ("messages", {"id": None}, "id: a text is expected, not NoneType"),
        ("prompt-completion", {"prompt": turns(("user", "q"), ("assistant", "a"))}, "prompt: ends with assistant"),
        ("prompt-completion", {"completion": turns(("user", "a"))}, "completion: the turn is the assistant's"),
        ("prompt-completion", {"completion": []}, "completion: one turn is expected"),
        ("completion", {"completion": turns(("assistant", "a"))}, "completion: a text is expected, not list"),
        ("completion", {"completion": ""}, "completion: is blank"),
        ("alpaca", {"output": ""}, "output: is blank"),
        ("alpaca", {"system": None}, "system: a text is expected"),
        ("alpaca", {"history": []}, "history: alpaca knows no such column"),
        ("sharegpt", {"conversations": turns(("user", "q"), ("gpt", "a"), role="from", content="value")}, "take turns"),
        ("sharegpt", {"conversations": turns(("human", "q"), ("gpt", "a"))}, "turn 1: an object with from and value"),
    ],
)
def test_what_a_reader_would_refuse_is_told(format: str, changes: dict[str, Any], problem: str) -> None:
    """Exactly that problem, and the column."""
    assert check_row(GOOD[format], format) == []
    (found, *_) = check_row({**GOOD[format], **changes}, format)
    assert problem in found


def test_missing_columns_and_rows_that_are_none_are_told() -> None:
    """A weight of 0 or 1 on an answer is fine with OpenAI."""
    assert check_row([], "openai") == ["a row is a JSON object, not list"]
    assert check_row({"id": "r", "provenance": "{}"}, "messages") == ["messages: is missing"]
    weighed = [*turns(("user", "q")), {"role": "assistant", "content": "a", "weight": 0}]
    assert check_row({"messages": weighed}, "openai") == []


def test_openai_wants_ten_rows_and_the_others_one() -> None:
    """A file of fewer is refused on upload."""
    assert check_count(9, "openai") == ["9 rows: openai needs 10 or more"]
    assert check_count(10, "openai") == check_count(1, "alpaca") == []
    assert check_count(0, "alpaca")

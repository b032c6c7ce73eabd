"""Tests of the detectors' measured error rates: what is counted, and what is shipped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.noise import findings
from llama_index_hybridmem.noise.confusion import Confusion, Errors, Share, confusion
from llama_index_hybridmem.noise.detectors import measured
from llama_index_hybridmem.noise.detectors.catalog import versions
from llama_index_hybridmem.noise.edits import Edit
from llama_index_hybridmem.noise.findings import Finding
from llama_index_hybridmem.noise.kinds import KINDS
from llama_index_hybridmem.noise.measuring import USABLE
from llama_index_hybridmem.noise.operators import registry
from llama_index_hybridmem.noise.operators.registry import mark
from llama_index_hybridmem.noise.scene import Passage, Scene, World

CLEAN = [
    Scene(f"question {n}", tuple(Passage(f"{n}-{at}", f"text {n} {at}", score=1 - at / 10) for at in range(4)))
    for n in range(50)
]


def stamp(text: str, severity: float, draw: Random) -> list[Edit]:
    """Puts a stamp at the end, of two sorts."""
    return [Edit(len(text), len(text), draw.choice(("#", "@")) + f"{severity}")]


def fog(text: str, severity: float, draw: Random) -> list[Edit]:
    """Changes what no detector looks at."""
    return [Edit(0, 0, " ")]


def nothing(text: str, severity: float, draw: Random) -> list[Edit]:
    """Finds nothing to break."""
    return []


def copy(scene: Scene, severity: float, draw: Random, world: World) -> Scene:
    """Copies the first passage."""
    first = scene.passages[0]
    twin = Passage("twin", first.text, first.metadata, first.source, first.score)
    return scene.with_passages([*scene.passages, mark(twin, "copy", severity, "s", {"id": first.id})])


def turn(scene: Scene, severity: float, draw: Random, world: World) -> Scene:
    """Turns the list round."""
    return scene.with_passages(scene.passages[::-1])


def hashes(passage: Passage, scene: Scene) -> Finding | None:
    """Sees one of the two stamps, and one clean passage in four."""
    seen = "#" in passage.text or (passage.id.endswith("-3") and "@" not in passage.text)
    return Finding("ocr", "stamp", 1.0) if seen else None


def twins(scene: Scene) -> Iterator[tuple[str | None, Finding]]:
    """Blames the first of two equal texts."""
    if [each.text for each in scene.passages].count(scene.passages[0].text) > 1:
        yield scene.passages[0].id, Finding("duplicate", "copy", 1.0)


def order(scene: Scene) -> Iterator[tuple[str | None, Finding]]:
    """Sees that the first passage is not the best."""
    if scene.passages[0].score != max(each.score or 0 for each in scene.passages):
        yield None, Finding("order", "turn", 1.0)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators and detectors of which it is known what they do, and no others."""
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.setattr(findings, "_REGISTERED", {})
    registry.of_text("stamp", "ocr")(stamp)
    registry.of_text("fog", "ocr")(fog)
    registry.of_text("nothing", "html")(nothing)
    registry.of_scene("copy", "duplicate")(copy)
    registry.of_scene("turn", "order")(turn)
    findings.of_passage("hashes", "ocr")(hashes)
    findings.of_scene("twins", "duplicate")(twins)
    findings.of_scene("order", "order")(order)


@pytest.fixture
def table(parts: None) -> Confusion:
    """All of it over fifty clean scenes of four passages."""
    return confusion(CLEAN, registry.operators(), (0.5, 1.0), "seed")


def test_clean_passages_give_the_false_alarms(table: Confusion) -> None:
    """One passage in four is a false alarm; lists are counted once, whatever their length."""
    assert table.alarms["ocr"] == Share(50, 200)
    assert table.alarms["order"] == Share(0, 50)
    assert table.errors()["ocr"].specificity == 0.75


def test_each_operator_damages_one_passage_of_each_scene(table: Confusion) -> None:
    """About half of the stamps are of the sort that is seen; only the damaged passage is looked at."""
    share = table.found["ocr", "stamp"]
    assert share.of == 50
    low, high = share.interval
    assert low < 0.5 < high
    assert table.found["duplicate", "stamp"] == Share(0, 50)


def test_a_finding_on_the_passage_that_was_copied_counts(table: Confusion) -> None:
    """Of two copies, nobody can tell which one is the copy."""
    assert table.found["duplicate", "copy"] == Share(50, 50)


def test_findings_about_lists_count_by_question(table: Confusion) -> None:
    """An operator that marks no passage is still seen by what is wrong with the list."""
    assert table.found["order", "turn"] == Share(50, 50)


def test_an_operator_with_nothing_to_break_is_told_apart_from_one_that_is_not_seen(table: Confusion) -> None:
    """Idle is counted, and is no missed damage."""
    assert table.idle["nothing"] == 50
    assert not any(name == "nothing" for _, name in table.found)
    assert "html" not in table.errors()


def test_what_cannot_be_seen_is_named_and_left_out_of_the_sensitivity(table: Confusion) -> None:
    """What is found in a tenth of it or less is found by chance; of a kind with nothing else, that is the figure."""
    unseen = Confusion({("ocr", "fog"): Share(5, 50), ("ocr", "stamp"): Share(25, 50)}, table.alarms, table.kinds, {})
    assert unseen.blind() == ("fog",)
    assert unseen.errors()["ocr"][:3] == (0.5, 0.75, 50)
    only = Confusion({("ocr", "fog"): Share(1, 50)}, table.alarms, table.kinds, {})
    assert only.errors()["ocr"].sensitivity == 0.02
    assert not only.errors()["ocr"].usable


def test_the_same_seed_gives_the_same_table(parts: None, table: Confusion) -> None:
    """Another seed draws other passages and stamps."""
    assert confusion(CLEAN, registry.operators(), (0.5, 1.0), "seed") == table
    assert confusion(CLEAN, registry.operators(), (0.5, 1.0), "other") != table


def test_tables_of_two_sources_add_up(parts: None, table: Confusion) -> None:
    """Measured in two halves and put together, everything that does not hang on the draw is the same."""
    halves = [confusion(CLEAN[part::2], registry.operators(), (1.0,), "seed") for part in (0, 1)]
    both = halves[0].plus(halves[1])
    assert both.alarms == table.alarms
    assert both.found["duplicate", "copy"] == Share(50, 50)
    assert both.idle == table.idle


def test_the_table_is_markdown_and_json(table: Confusion) -> None:
    """A line for clean passages and each operator, the own kind's share bold; JSON holds the counts."""
    lines = table.table().splitlines()
    assert lines[2].startswith("| (clean) | 200 |")
    assert len(lines) == 3 + len(table.kinds)
    assert len({line.count("|") for line in lines}) == 1
    assert any(line.startswith("| copy | 50 |") and "**100** [93, 100]" in line for line in lines)
    row = json.loads(json.dumps(table.to_json()))
    assert row["detectors"]["ocr"]["alarms"]["found"] == 50
    assert row["errors"]["ocr"]["usable"] is (table.errors()["ocr"].sensitivity - 0.25 >= USABLE)


@pytest.mark.parametrize("severities", [(), (0.0, 1.0), (1.5,)])
def test_severities_out_of_range_are_refused(severities: tuple[float, ...]) -> None:
    """Severity 0 changes nothing: it would count as damage that was missed."""
    with pytest.raises(ConfigurationError, match="severities"):
        confusion(CLEAN, [], severities, "seed")


@given(st.integers(0, 300), st.integers(1, 300))
def test_the_interval_holds_the_rate(found: int, of: int) -> None:
    """It lies within 0 to 1, is open where the rate is 0 or 1, and narrows with more of the same."""
    share = Share(min(found, of), of)
    low, high = share.interval
    assert 0 <= low <= share.found / of + 1e-9
    assert share.found / of - 1e-9 <= high <= 1
    assert low < high
    ten = Share(10 * share.found, 10 * of).interval
    assert ten[1] - ten[0] < high - low


def test_wilsons_interval() -> None:
    """Of 10 found in 20, by hand: 0.299 to 0.701; nothing is known from none."""
    assert Share(10, 20).interval == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert Share(0, 0).rate is None
    assert Share(0, 0).interval == (0.0, 1.0)


def test_the_shipped_figures_are_those_of_the_detectors_that_are_shipped() -> None:
    """A detector whose version went up, or a new one, must be measured again."""
    assert dict(measured.VERSIONS) == versions()
    assert measured.MEASURED_ON


def test_the_shipped_figures_are_rates_of_known_kinds() -> None:
    """Every kind was measured on enough of both; most can be corrected, and the table says which cannot."""
    table = measured.errors()
    assert set(table) <= set(KINDS)
    for each in table.values():
        assert 0 <= each.sensitivity <= 1
        assert 0 <= each.specificity <= 1
        assert each.damaged >= 30
        assert each.clean >= 100
    assert {"truncation", "html", "ocr", "encoding", "layout", "irrelevant"} <= {
        kind for kind, each in table.items() if each.usable
    }
    assert not Errors(0.1, 0.95).usable

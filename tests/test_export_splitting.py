"""Splits: questions about one document stay together, wherever and whenever the split is drawn."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.record import Draft, Split
from llama_index_hybridmem.export.splitting import held_out_sources, sources_of, split_of
from llama_index_hybridmem.noise.scene import Passage, Scene


def draft(*sources: str | None, gold: int = 1, domain: str | None = None, near: str | None = None) -> Draft:
    """A question with a passage of each source; the first ``gold`` of them answer."""
    passages = tuple(Passage(f"p{n}", "text", source=source) for n, source in enumerate(sources))
    beyond = (Passage("near", "text", source=near),) if near else ()
    answer = frozenset({f"p{n}" for n in range(gold)} | ({"near"} if near else set()))
    return Draft("d", Scene("What?", passages, beyond, answer), domain=domain)


def test_the_same_document_goes_to_the_same_part() -> None:
    """The part follows from the gold document alone: distractors, ids and questions make no difference."""
    options = ExportOptions()
    for n in range(50):
        one, other = draft(f"doc{n}", "a"), Draft("e", Scene("Why?", draft(f"doc{n}", "b").scene.passages), "traces")
        assert split_of(one, options) == split_of(other, options)


def test_shares_are_met() -> None:
    """Of many documents each part gets its share, within chance."""
    options = ExportOptions(splits={"train": 0.7, "dev": 0.1, "test": 0.2})
    found = Counter(split_of(draft(f"doc{n}"), options) for n in range(4000))
    assert found["train"] / 4000 == pytest.approx(0.7, abs=0.03)
    assert found["dev"] / 4000 == pytest.approx(0.1, abs=0.02)
    assert found["test"] / 4000 == pytest.approx(0.2, abs=0.025)


@pytest.mark.parametrize(
    "splits",
    [{"train": 1.0, "dev": 0.0, "test": 0.0}, {"train": 0.7, "dev": 0.3, "test": 0}, {"train": 0, "dev": 0, "test": 1}],
    ids=["train", "no-test", "test"],
)
def test_a_part_without_a_share_stays_empty(splits: Mapping[Split, float]) -> None:
    """A share of 0 is none at all."""
    found = {split_of(draft(f"doc{n}"), ExportOptions(splits=splits)) for n in range(300)}
    assert found == {split for split, share in splits.items() if share}


def test_a_question_that_straddles_parts_has_none() -> None:
    """Two gold documents of different parts leave the question out; of one part, they do not."""
    options = ExportOptions(splits={"train": 0.5, "dev": 0.0, "test": 0.5})
    parts = {f"doc{n}": split_of(draft(f"doc{n}"), options) for n in range(30)}
    train = [name for name, part in parts.items() if part == "train"]
    test = [name for name, part in parts.items() if part == "test"]
    assert split_of(draft(train[0], train[1], gold=2), options) == "train"
    assert split_of(draft(train[0], test[0], gold=2), options) is None


def test_what_the_prompt_does_not_get_decides_nothing() -> None:
    """Gold beyond the prompt's passages, near or among them, neither moves a question nor makes it straddle."""
    options = ExportOptions(splits={"train": 0.5, "dev": 0.0, "test": 0.5}, top_k=1)
    for n in range(30):
        alone = split_of(draft(f"doc{n}"), options)
        assert alone is not None
        assert split_of(draft(f"doc{n}", near=f"other{n}"), options) == alone
        assert split_of(draft(f"doc{n}", f"other{n}", gold=2), options) == alone


def test_held_out_domains_are_tested_only() -> None:
    """A domain that is held out goes to test, whatever its documents; others never go by their domain."""
    options = ExportOptions(held_out_domains=("law",))
    assert {split_of(draft(f"doc{n}", domain="law"), options) for n in range(30)} == {"test"}
    assert all(
        split_of(draft(f"doc{n}", domain="tax"), options) == split_of(draft(f"doc{n}"), options) for n in range(30)
    )


def test_documents_of_held_out_domains_are_tested_only() -> None:
    """Whatever else is asked about them; a question on one of them and another of train straddles."""
    options = ExportOptions(held_out_domains=("law",), splits={"train": 1.0, "dev": 0.0, "test": 0.0})
    held = held_out_sources([draft("act", "b", domain="law"), draft("c", domain="tax"), draft("d")], options)
    assert held == {"act"}
    assert split_of(draft("act", domain="tax"), options, held) == "test"
    assert split_of(draft("act", "c", gold=2), options, held) is None
    assert split_of(draft("c"), options, held) == "train"


def test_sources_are_never_missing() -> None:
    """Gold documents, sorted; else the first passage's; else the question; unknown documents count by passage."""
    assert sources_of(draft("b", "a", "c", gold=2), 3) == ("a", "b")
    assert sources_of(draft("b", "a", gold=0), 3) == ("b",)
    assert sources_of(draft(None, gold=1), 3) == ("p0",)
    assert sources_of(draft(gold=0), 3) == ("What?",)


def test_another_seed_draws_other_parts() -> None:
    """The seed decides: two of them do not agree on every document."""
    drafts = [draft(f"doc{n}") for n in range(60)]
    one, other = ([split_of(each, ExportOptions(seed=seed)) for each in drafts] for seed in (0, 1))
    assert one != other


@given(st.text(max_size=20))
def test_any_name_has_a_part(name: str) -> None:
    """Names of any signs, half characters included, are split, and alike each time."""
    options = ExportOptions()
    assert split_of(draft(name), options) == split_of(draft(name), options) is not None


def test_another_process_draws_the_same() -> None:
    """The part does not depend on Python's hash seed."""
    code = "from test_export_splitting import *;print([split_of(draft(f'doc{n}'), ExportOptions()) for n in range(20)])"
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path), "HF_HUB_OFFLINE": "1"},
    )
    assert told.stdout.strip() == str([split_of(draft(f"doc{n}"), ExportOptions()) for n in range(20)])

"""The two loops with a tiny model and the real TRL: killed after any step they go on, and nothing is done twice."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import SOAK
from fakes import WordsEmbedding
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import Document, NodeWithScore, QueryBundle
from models import tiny_qwen

from llama_index_hybridmem import HybridMemoryIndex
from llama_index_hybridmem.errors import AdapterRefusedError, ConfigurationError
from llama_index_hybridmem.export.asking import Asked
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.wording import Wording
from llama_index_hybridmem.llms.adapters.registry import AdapterRegistry
from llama_index_hybridmem.training.candidates import PROMOTED, Candidate
from llama_index_hybridmem.training.finetuning import finetune
from llama_index_hybridmem.training.general import probes
from llama_index_hybridmem.training.improving import EARLIER, Improving, improve
from llama_index_hybridmem.training.recipe import Recipe

STONES = ["red", "blue", "green", "black"] * 6
RECIPE = Recipe(
    rank=4, alpha=8, batch_size=4, micro_batch=4, max_steps=2, evaluations=1, precision="fp32", replay=0, patience=0
)
OPTIONS = ExportOptions(top_k=2, wording=Wording(system="Read. {form}", citation="none", shown=()))
HOW = Improving(recipe=RECIPE, options=OPTIONS, probes=(), few_rows=True)


class Killed(BaseException):
    """What ends a process from outside."""


class Counting(BaseRetriever):
    """Retrieves what an index does, and counts how often."""

    def __init__(self, index: HybridMemoryIndex) -> None:
        super().__init__()
        self.inner, self.asked = index.as_retriever(similarity_top_k=4), 0

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.asked += 1
        return self.inner.retrieve(query_bundle)


def gone() -> Any:
    """A store that must not be opened."""
    raise AssertionError("the set is there")


def asked(numbers: Sequence[int]) -> list[Asked]:
    """Questions about stones."""
    return [Asked(f"q{n}", f"Which colour has stone {n}?", STONES[n], frozenset([f"stone-{n}"])) for n in numbers]


def failures(path: Path, numbers: Sequence[int], **more: Any) -> Path:
    """A file of reviewed failures."""
    rows = [
        {"question": each.question, "answer": each.answer, "expected_sources": sorted(each.gold), "reviewed": "Ada"}
        for each in asked(numbers)
    ]
    path.write_text("".join(json.dumps(row | more) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="module", name="index")
def _index() -> Iterator[HybridMemoryIndex]:
    documents = [Document(text=f"Stone {n} is {colour}.", id_=f"stone-{n}") for n, colour in enumerate(STONES)]
    with HybridMemoryIndex.from_documents(documents, embed_model=WordsEmbedding()) as index:
        yield index


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("models") / "tiny")


def tuned(source: Any, model: Path, out: Path, killed_at: tuple[str, int] | None = None, **more: Any) -> Candidate:
    """A call that may be killed within a step."""

    def told(step: str, done: int, total: int, losses: Mapping[str, float]) -> None:
        if (step, done) == killed_at:
            raise Killed

    given: dict[str, Any] = {"recipe": RECIPE, "options": OPTIONS, "top_k": 2, "few_rows": True, "probes": ()}
    return finetune(asked(range(24)), source, model, out, told=told, **(given | more))


def weights(made: Candidate) -> str:
    """The hash of the adapter."""
    return hashlib.sha256((made.weights / "adapter_model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module", name="whole")
def _whole(index: HybridMemoryIndex, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """A call that nobody disturbed, with a registry."""
    folder = tmp_path_factory.mktemp("whole")
    return tuned(Counting(index), model, folder / "out", registry=folder / "registry", name="stones")


def test_one_call_gives_a_judged_candidate_that_is_not_promoted(whole: Candidate) -> None:
    """In the registry by that alias alone, with what was found; too few rows tell nothing, and that is said."""
    registry = AdapterRegistry(whole.folder.parent / "registry")
    version = registry.get("stones@candidate")
    assert version.id == whole.version
    assert set(registry.aliases("stones")) == {"candidate"}
    assert version.lineage["verdict"] == {"passed": None, "against": "the base"}
    assert whole.passed is None
    assert whole.report["rows"]["asked"] == 3
    assert set(whole.report["scores"]) == {"base", "candidate"}
    assert "cannot be told with 3 rows" in whole.report["verdicts"]["base"]["lines"][1]


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="five runs, each killed: run by make soak")
def test_killed_in_any_step_it_goes_on_and_repeats_none_that_is_done(
    index: HybridMemoryIndex, model: Path, whole: Candidate, tmp_path: Path
) -> None:
    """One folder, killed in turn while asking, writing, training and answering: the bytes of an unbroken call."""
    source, out = Counting(index), tmp_path / "out"
    for step, done in (("asking", 24), ("writing", 1), ("training", 1), ("answering", 2)):
        with pytest.raises(Killed):
            tuned(source, model, out, (step, done), name="stones")
    made = tuned(source, model, out, ("training", 1), name="stones")
    assert source.asked <= 48, "asked again only what was not kept"
    assert weights(made) == weights(whole)
    assert {**made.report, "version": None} == {**whole.report, "version": None}
    before = source.asked
    again = tuned(gone, model, out, ("answering", 1), name="stones")
    assert (again.report, source.asked) == (made.report, before), "a finished call opens neither store nor model"


def test_another_call_in_the_folder_is_refused_by_name_of_the_difference(
    index: HybridMemoryIndex, model: Path, whole: Candidate
) -> None:
    """Of options, recipe and questions; whole models cannot be compared so."""
    with pytest.raises(ConfigurationError, match="recipe, rank was 4, is 8"):
        tuned(index, model, whole.folder, name="stones", recipe=replace(RECIPE, rank=8))
    with pytest.raises(ConfigurationError, match="options, top_k was 2, is 3"):
        tuned(index, model, whole.folder, name="stones", top_k=3)
    with pytest.raises(ConfigurationError, match="unlike full"):
        tuned(index, model, whole.folder, recipe=replace(RECIPE, method="full"))


def test_without_few_rows_a_small_set_is_refused_and_nothing_is_lost(
    index: HybridMemoryIndex, model: Path, tmp_path: Path
) -> None:
    """The set is kept: called again, it needs no store."""
    for source in (index, gone):
        with pytest.raises(ConfigurationError, match="--few-rows"):
            tuned(source, model, tmp_path / "out", few_rows=False)


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="two rounds with real training: run by make soak")
def test_rounds_learn_from_new_failures_with_replay_and_are_asked_all_that_was_held_back(
    index: HybridMemoryIndex, model: Path, whole: Candidate, tmp_path: Path
) -> None:
    """Three rounds' mechanics: the promoted version is the start, a kill is gone on from, nothing promotes itself."""
    registry = AdapterRegistry(shutil.copytree(whole.folder.parent / "registry", tmp_path / "registry"))
    first = registry.alias("stones", "prod", "candidate")
    work, how = tmp_path / "work", replace(HOW, first=whole.folder / "dataset")
    given: dict[str, Any] = {"registry": registry, "name": "stones", "how": how}

    one = improve(failures(tmp_path / "1.jsonl", range(12)), index, model, work, **given)
    assert json.loads((one.folder / "round.json").read_text())["start"] == first.sha256
    assert registry.get("stones@prod") == first, "nothing promotes itself"
    assert registry.get("stones@candidate").id == one.version != first.id
    assert set(one.report["rounds"]) == {"first", "0001"}
    assert set(one.report["verdicts"]) == {"base", PROMOTED}
    with pytest.raises(ConfigurationError, match="nothing new: all 12"):
        improve(tmp_path / "1.jsonl", index, model, work, **given)

    registry.alias("stones", "prod", "candidate")

    def killed(step: str, done: int, total: int, losses: Mapping[str, float]) -> None:
        if (step, done) == ("training", 1):
            raise Killed

    more = failures(tmp_path / "2.jsonl", range(20))
    with pytest.raises(Killed):
        improve(more, index, model, work, told=killed, **given)
    registry.rollback("stones", "prod")
    with pytest.raises(ConfigurationError, match="not finished, and was begun with other failures"):
        improve(tmp_path / "1.jsonl", index, model, work, **given)
    two = improve(more, index, model, work, **given)
    assert two.report["against"] == one.version, "the start stays what it was when the round was begun"
    assert two.report["failures"] == {"user": 8}
    assert two.report["rows"]["earlier"] == two.report["rows"]["new"] > 0
    assert set(two.report["rounds"]) == {"first", "0001", "0002"}
    assert set(two.report["verdicts"]) == {"base", PROMOTED, EARLIER}
    assert two.report["verdicts"][EARLIER]["checks"]["all rows"]["n"] == one.report["rounds"]["0001"]["candidate"]["n"]
    lineage = registry.get("stones@candidate").lineage
    assert (lineage["data"]["round"], lineage["start"]) == ("0002", weights(one))


def test_a_promoted_version_of_another_base_is_refused_with_advice(
    index: HybridMemoryIndex, model: Path, whole: Candidate, tmp_path: Path
) -> None:
    """Before anything is retrieved or trained, by both loops."""
    from safetensors.torch import load_file, save_file

    registry = AdapterRegistry(shutil.copytree(whole.folder.parent / "registry", tmp_path / "registry"))
    registry.alias("stones", "prod", "candidate")
    other, source = shutil.copytree(model, tmp_path / "other"), Counting(index)
    changed = {name: weight + 0.1 for name, weight in load_file(model / "model.safetensors").items()}
    save_file(changed, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(AdapterRefusedError, match="Name the base that stones@.* was trained on"):
        improve(
            failures(tmp_path / "1.jsonl", range(9)),
            source,
            other,
            tmp_path / "work",
            registry=registry,
            name="stones",
            how=HOW,
        )
    with pytest.raises(AdapterRefusedError, match="or give the adapter another name"):
        tuned(source, other, tmp_path / "out", registry=registry, name="stones")
    assert source.asked == 0


def test_what_is_forgotten_is_asked_of_each(model: Path, whole: Candidate, tmp_path: Path) -> None:
    """Probes are asked of base and candidate, and stand in the verdict; of a set and a run that are there."""
    for name in ("dataset", "run"):
        shutil.copytree(whole.folder / name, tmp_path / "out" / name)
    made = tuned(gone, model, tmp_path / "out", name="stones", probes=probes()[::30])
    found = made.report["verdicts"]["base"]
    assert [each["verdict"] for each in found["skills"]] == ["not measurable on this base"] * 7
    assert found["checks"]["skills kept"]["passed"] is None

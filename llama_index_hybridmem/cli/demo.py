"""`hybridmem demo`: the sample documents indexed, and a telling selection of their questions asked, in one process."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import MissingExtraError, StoreDamagedError, StoreMismatchError
from .files import find
from .ingest import IngestReport, take_in
from .options import LLM_HELP, Json
from .traces import Traces, measured

if TYPE_CHECKING:
    from llama_index.core.llms import LLM
    from rich.console import Console
    from rich.table import Table

    from ..costs.trace import QueryTrace
    from ..index import HybridMemoryIndex
    from .answer import Answer

CHOSEN = (
    "comparison-01",
    "two-hop-12",
    "two-hop-06",
    "single-02",
    "comparison-04",
    "unanswerable-03",
    "no-retrieval-03",
)
"""Of the sample's: comparisons, two hops from document to document, a fact, one not in them, one that needs none."""
SMALL = (
    "{name} has 135 million parameters. That is very small: it runs anywhere and misreads much, so trust the sentences "
    "and sources beside its answers, not the answers. Name a better one with --llm ollama:MODEL, openai:MODEL, "
    "huggingface:NAME or openai-like:URL,MODEL."
)
_DEFAULT_LLM = "smollm2"
_TOP_K = 6  # passages; the small model reads some 300 tokens a second on one core
_NEW_TOKENS = 48
_PLURALS = ("documents", "passages", "names", "facts")


def demo(
    store: Annotated[
        Path | None, typer.Option("--store", "-s", metavar="DIR", help="Default: hybridmem-demo in your cache folder.")
    ] = None,
    llm: Annotated[str, typer.Option(metavar="NAME", help=LLM_HELP)] = _DEFAULT_LLM,
    traces: Traces = None,
    as_json: Json = False,
) -> None:
    """Index sample documents and ask them questions.

    You see which memory answered, and how fast. The documents are about computer memory. Nothing is downloaded: encoder
    and language model run here.
    """
    from . import screen

    began = time.perf_counter()
    page = screen.page()
    page.quiet = as_json
    with screen.results_only():
        model, remark = _model(llm)
        index = _index(store)
    with index:
        with screen.results_only():
            report = _fill(index, prune=store is None)
        _introduce(page, report, remark)
        mode = {} if model is not None else {"response_mode": "no_text"}
        engine = index.as_query_engine(model, similarity_top_k=_TOP_K, **mode)
        with measured(traces or _fresh_traces()) as handler:
            answers = list(_answers(page, engine, model))
            spent = [] if handler is None else handler.traces()
    seconds = time.perf_counter() - began
    if as_json:
        shown = [{**answer.to_json(), "expected_sources": expected} for answer, expected in answers]
        screen.write_json({"ingest": asdict(report), "remark": remark, "answers": shown, "seconds": seconds})
    _conclude(page, answers, report, seconds)
    page.print(_spent(spent, traces or _traces_file()), markup=False)


def _model(name: str) -> tuple[LLM | None, str]:
    """The model, loaded, and what to know about it; the default one may be missing."""
    from .llms import resolve

    try:
        model = resolve(name, max_tokens=_NEW_TOKENS)
    except MissingExtraError as error:
        if name != _DEFAULT_LLM:
            raise
        return None, f"Without a language model: {error}"
    if model is None:
        return None, "Without a language model, as you wished: sources, facts and the best sentences."
    if name != _DEFAULT_LLM:
        return model, f"The language model is {model.metadata.model_name}."
    model.complete("Hi", max_new_tokens=1)  # loads it, so that the first question's time is its own
    return model, SMALL.format(name=model.metadata.model_name)


def _traces_file() -> Path:
    from ..cache import cache_folder

    return cache_folder() / "hybridmem-demo-traces.jsonl"


def _fresh_traces() -> Path:
    """The demo's own file of traces, without those of the last demo."""
    file = _traces_file()
    file.unlink(missing_ok=True)
    return file


def _spent(traces: Sequence[QueryTrace], file: Path) -> str:
    """What the questions cost, and how to see more of it."""
    tokens = [trace.tokens() for trace in traces]
    read, wrote = sum(each[0] for each in tokens), sum(each[1] for each in tokens)
    cost = sum(trace.cost_known for trace in traces)
    unpriced = sum(trace.unpriced for trace in traces)
    rest = f" and {unpriced} calls without a price" if unpriced else ""
    who = f"The model read {read:,} tokens and wrote {wrote:,}" if read else "No language model was asked"
    paid = f"${cost:.6f}" if cost or not unpriced else "no price is known"
    return f"{who}: {paid}{rest}. Where the time and the money went:\n  {_program()} report {file} -o report.html"


def _index(store: Path | None) -> HybridMemoryIndex:
    """The demo's store with its encoder loaded; ours in the cache folder is made anew when it cannot be used."""
    from ..cache import cache_folder
    from ..index import HybridMemoryIndex
    from .store import warm_up

    folder = store or cache_folder() / "hybridmem-demo"
    try:
        index = HybridMemoryIndex.from_documents([], persist_dir=folder)
    except (StoreDamagedError, StoreMismatchError):
        if store is not None:
            raise
        shutil.rmtree(folder)
        index = HybridMemoryIndex.from_documents([], persist_dir=folder)
    warm_up(index)
    return index


def _fill(index: HybridMemoryIndex, *, prune: bool) -> IngestReport:
    """Bring the sample into the index; from a store of our own, `prune` documents of an older sample."""
    from ..sample import documents_folder, facts_path

    began = time.perf_counter()
    files, problems = find([documents_folder()])
    report = IngestReport(str(index.folder), problems=problems)
    if prune:
        for doc_id in index.ref_doc_info.keys() - {file.doc_id for file in files}:
            index.delete_ref_doc(doc_id)
    with facts_path().open(encoding="utf-8", newline="") as rows:
        triples = [(row["entity"], row["attribute"], _quantity(row)) for row in csv.DictReader(rows)]
    index.add_knowledge(triples=triples)
    report.facts = len(triples)
    take_in(index, files, report, lambda done, documents: None)
    report.seconds = time.perf_counter() - began
    return report


def _quantity(row: dict[str, str]) -> str:
    return row["value"] if row["unit"] in ("", "year") else f"{row['value']} {row['unit']}"


def _introduce(page: Console, report: IngestReport, remark: str) -> None:
    counts = ", ".join(f"{report.totals[name]:,} {name}" for name in _PLURALS)
    before = f" ({report.unchanged} documents were there already)" if report.unchanged else ""
    page.rule("hybrid memory: vector, keyword and graph, side by side")
    page.print(f"{counts} in {report.seconds:.1f} s{before}, in {report.store}", markup=False)
    page.print(remark, style="yellow", markup=False)


def _answers(page: Console, engine: Any, model: LLM | None) -> Iterator[tuple[Answer, dict[str, bool]]]:
    """Ask and draw one question after the other; also tell which of the documents that answer it were found."""
    from . import screen
    from .answer import ask
    from .layout import view

    rows = _rows()
    for number, row in enumerate(rows, start=1):
        page.print()
        page.rule(f"{number} of {len(rows)}: {row['kind'].replace('_', ' ')}", align="left")
        page.print(row["question"], style="bold", markup=False)
        with screen.results_only():
            answer = ask(engine, row["question"], model)
        page.print(view(answer, explain=True, expected=row["answer"] or ""))
        found = {Path(source.document).stem for source in answer.sources}
        yield answer, {name: name in found for name in row["expected_sources"]}


def _rows() -> list[dict[str, Any]]:
    from ..sample import questions_path

    lines = questions_path().read_text(encoding="utf-8").splitlines()
    rows = {row["id"]: row for row in map(json.loads, lines)}
    return [rows[name] for name in CHOSEN]


def _conclude(
    page: Console, answers: Sequence[tuple[Answer, dict[str, bool]]], report: IngestReport, seconds: float
) -> None:
    page.print()
    page.rule("in short")
    page.print(_summary(answers))
    page.print(
        f"\n{seconds:.0f} s in all. Ask more:\n  {_program()} ask --store {report.store} --explain\n"
        f"Training data out of what it retrieves:\n  {_program()} dataset export --store {report.store} "
        "--questions sample -o training",
        markup=False,
    )


def _program() -> str:
    """Give the command as it can be typed here: by name, or from a virtual environment that is not on the path."""
    name = "hybridmem"
    return name if shutil.which(name) else os.path.relpath(Path(sys.executable).with_name(name))


def _summary(answers: Sequence[tuple[Answer, dict[str, bool]]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from .layout import milliseconds

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("question", ratio=1, no_wrap=True, overflow="ellipsis")
    for name in ("route", "answer"):
        table.add_column(name, no_wrap=True)
    for name in ("right sources", "found in", "in all"):
        table.add_column(name, justify="right", no_wrap=True)
    for answer, expected in answers:
        timings = answer.hybridmem["timings"]
        table.add_row(
            Text(answer.question),
            answer.hybridmem["route"],
            answer.hybridmem["answer"],
            f"{sum(expected.values())} of {len(expected)}" if expected else "–",
            milliseconds(timings.get("retrieve")),
            milliseconds(timings.get("total")),
        )
    return table

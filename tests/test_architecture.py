"""The arrows of the house point one way; read from the source text, nothing is imported."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "llama_index_hybridmem"
PACKAGE = ROOT.name

# No I/O, clock, threads, LlamaIndex or torch: they compute, and import only one another.
PURE = {
    "answers",
    "chunking",
    "citations",
    "costs.audit.chain",
    "costs.audit.redaction",
    "costs.audit.verify",
    "costs.bills.entry",
    "costs.bills.sharing",
    "costs.budgets.account",
    "costs.exporters.genai_names",
    "costs.exporters.genai_spans",
    "costs.exporting",
    "costs.figures.groups",
    "costs.figures.model_use",
    "costs.figures.spending",
    "costs.figures.spread",
    "costs.figures.summary",
    "costs.figures.waterfall",
    "costs.planning.assumptions",
    "costs.planning.estimate",
    "costs.planning.work",
    "costs.prices.money",
    "costs.prices.row",
    "costs.prices.tariffs",
    "costs.report.names",
    "costs.report.tables",
    "costs.report.wording",
    "costs.tokens.providers",
    "costs.tokens.usage",
    "costs.trace",
    "costs.tracking.roles",
    "costs.value",
    "costs.worth.answer_cost",
    "costs.worth.balance",
    "costs.worth.fixed",
    "costs.worth.judged",
    "costs.worth.paired",
    "costs.worth.tables",
    "costs.worth.words",
    "example",
    "export.card",
    "export.checks",
    "export.description",
    "export.drawing",
    "export.drift",
    "export.facts",
    "export.formats",
    "export.layouts",
    "export.leakage",
    "export.making",
    "export.mixing",
    "export.names",
    "export.options",
    "export.reasons",
    "export.record",
    "export.schemas",
    "export.shapes",
    "export.splitting",
    "export.style",
    "export.targets",
    "export.wording",
    "filters",
    "fusion",
    "graph.cypher",
    "graph.cypher_judge",
    "graph.cypher_rows",
    "graph.cypher_tokens",
    "graph.entities",
    "graph.picture",
    "graph.picture_layout",
    "graph.second_hop",
    "graph.stores.base",
    "graph.stores.bm25",
    "graph.stores.conditions",
    "graph.stores.neo4j.conditions",
    "graph.stores.neo4j.schema",
    "graph.stores.schema",
    "graph.walk",
    "llms.adapters.aliases",
    "llms.adapters.compatibility",
    "llms.adapters.config",
    "llms.adapters.fingerprints",
    "llms.adapters.layout",
    "llms.adapters.names",
    "llms.copy_paths",
    "llms.copy_text",
    "llms.remote.conformance",
    "llms.remote.dialects",
    "llms.serving.batching",
    "llms.serving.transcript",
    "llms.tool_calls",
    "markdown",
    "noise.confusion",
    "noise.defaults",
    "noise.detectors.catalog",
    "noise.detectors.cuts",
    "noise.detectors.duplicates",
    "noise.detectors.encoding",
    "noise.detectors.html",
    "noise.detectors.language",
    "noise.detectors.layout",
    "noise.detectors.markdown",
    "noise.detectors.measured",
    "noise.detectors.metadata",
    "noise.detectors.ocr",
    "noise.detectors.relevance",
    "noise.detectors.statements",
    "noise.distance",
    "noise.edits",
    "noise.findings",
    "noise.fitting",
    "noise.injection",
    "noise.kinds",
    "noise.measuring",
    "noise.mix",
    "noise.operators.catalog",
    "noise.operators.cuts",
    "noise.operators.denial",
    "noise.operators.encoding",
    "noise.operators.html",
    "noise.operators.language",
    "noise.operators.layout",
    "noise.operators.lists",
    "noise.operators.markdown",
    "noise.operators.metadata",
    "noise.operators.ocr",
    "noise.operators.places",
    "noise.operators.registry",
    "noise.operators.rewording",
    "noise.operators.statements",
    "noise.others",
    "noise.profile",
    "noise.retrievals",
    "noise.scene",
    "noise.structure",
    "noise.support",
    "noise.values",
    "routing.arbiter",
    "routing.decision",
    "routing.need",
    "sample.asking.generate",
    "sample.asking.pairs",
    "sample.asking.phrasings",
    "sample.asking.question",
    "sample.asking.quoting",
    "sample.asking.sheets",
    "sample.asking.singles",
    "sample.asking.splitting",
    "sample.asking.unanswerable",
    "sample.behaviours.parts",
    "sample.behaviours.policy",
    "sample.behaviours.sealed",
    "sample.behaviours.sealed_records",
    "sample.behaviours.shop",
    "sample.behaviours.styles",
    "sample.behaviours.ticket_cores",
    "sample.behaviours.ticket_frames",
    "sample.behaviours.tickets",
    "sample.behaviours.voice_phrases",
    "sample.behaviours.voice_topics",
    "sample.behaviours.voice_topics_held",
    "sample.behaviours.voices",
    "statistics",
    "terms",
    "training.abstaining",
    "training.admission",
    "training.drawing",
    "training.estimates",
    "training.general.probes",
    "training.general.rows",
    "training.general.tables",
    "training.judging",
    "training.learning_curve",
    "training.overfitting",
    "training.probes",
    "training.recipe",
    "training.replay",
    "training.scaling_curve",
    "training.scores",
    "training.verdict",
}
# The ground floor: every room may stand on it, and it stands on nothing above itself.
GROUND = {
    "answers",
    "bells",
    "branches",
    "breaker",
    "cache",
    "chunking",
    "deadlines",
    "disk",
    "errors",
    "events",
    "example",
    "extras",
    "filters",
    "fusion",
    "loop_thread",
    "markdown",
    "report",
    "statistics",
    "streaming",
    "tags",
    "terms",
}
# Folders that stand on another one's rooms: an export is noise made, labelled and written down; what is trained was
# exported, and becomes an adapter that is served.
STANDS_ON = {("export", "noise"), ("training", "export"), ("training", "llms")}
# Libraries that act on the world or read it; nothing pure has a use for them.
IMPURE = set(
    "asyncio http io logging multiprocessing os pathlib select shutil signal socket sqlite3 ssl subprocess tempfile "
    "threading time urllib".split()
)
# Seconds of CPU, or an extra: imported inside the function that needs them.
LAZY = set(
    "accelerate bitsandbytes datasets ftfy genai_prices gguf huggingface_hub jinja2 markdown_it matplotlib neo4j "
    "opentelemetry pandas peft prometheus_client pyarrow qdrant_client ray rich safetensors sentence_transformers "
    "tokenizers torch transformers trl typer".split()
)
# Libraries that only compute, so that a pure room may use them: numbers, texts, Markdown.
COMPUTING = {"ftfy", "markdown_it", "numpy", "scipy"}


@dataclass(frozen=True)
class Arrow:
    """One import: from a module of ours, to a module of ours or a library, at the top or inside a function."""

    source: str
    target: str
    name: str | None
    ours: bool
    at_top: bool

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}" + (f".{self.name}" if self.name else "")

    @property
    def library(self) -> str:
        """The top-level name of a foreign target."""
        return self.target.partition(".")[0]


@cache
def modules() -> dict[str, Path]:
    """Module names below the package ("graph.walk"; a package's own module is its folder) and their files."""
    found = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
    return {name.removesuffix("__init__").rstrip("."): path for name, path in found.items()}


def runtime_imports(node: ast.AST, at_top: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import below a node that runs, and whether it runs when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            if isinstance(child.test, ast.UnaryOp):
                yield from runtime_imports(child, at_top)
        elif isinstance(child, ast.Import | ast.ImportFrom):
            yield child, at_top
        else:
            yield from runtime_imports(child, at_top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


def arrow(source: str, target: str, name: str | None, at_top: bool) -> Arrow:
    """One arrow; a name that is itself a module of ours becomes the target."""
    if target != PACKAGE and not target.startswith(f"{PACKAGE}."):
        return Arrow(source, target, name, ours=False, at_top=at_top)
    inner = target.removeprefix(PACKAGE).lstrip(".")
    as_module = f"{inner}.{name}".lstrip(".")
    if name is not None and as_module in modules():
        inner, name = as_module, None
    return Arrow(source, inner, name, ours=True, at_top=at_top)


@cache
def arrows() -> tuple[Arrow, ...]:
    """Every import in the package that runs."""
    found = []
    for source, path in modules().items():
        folder = [PACKAGE, *path.relative_to(ROOT).parent.parts]
        for statement, at_top in runtime_imports(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(statement, ast.Import):
                found += [arrow(source, alias.name, None, at_top) for alias in statement.names]
                continue
            above = folder[: len(folder) + 1 - statement.level] if statement.level else []
            target = ".".join([*above, *([statement.module] if statement.module else [])])
            found += [arrow(source, target, alias.name, at_top) for alias in statement.names]
    return tuple(found)


def folder_of(module: str) -> str:
    """The folder below the package that a module lies in; "" at the top level."""
    head, _, _ = module.partition(".")
    return head if (ROOT / head).is_dir() else ""


def public_names() -> set[str]:
    """What the package exports."""
    for node in ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError("no __all__")


def shown(wrong: list[Arrow]) -> list[str]:
    """Arrows as readable lines, for the failure message."""
    return sorted({str(one) for one in wrong})


@pytest.mark.parametrize("rooms", [PURE, GROUND], ids=["pure", "ground"])
def test_the_lists_name_real_rooms(rooms: set[str]) -> None:
    """A renamed room does not silently leave the lists that guard it."""
    assert rooms - modules().keys() == set()


def test_the_walk_sees_the_imports() -> None:
    """The tests below judge something: known arrows of each kind are found."""
    lines = {str(one) for one in arrows()}
    assert "fusion -> errors.ConfigurationError" in lines
    assert "graph.walk -> numpy" in lines
    assert any(one.library == "torch" and not one.at_top for one in arrows())


def test_pure_rooms_are_pure() -> None:
    """A pure room imports the standard library (without I/O), what only computes, the errors and other pure rooms."""
    allowed = (sys.stdlib_module_names - IMPURE) | COMPUTING
    ours = PURE | {"errors", "extras"}
    wrong = [
        one
        for one in arrows()
        if one.source in PURE and (one.target not in ours if one.ours else one.library not in allowed)
    ]
    assert shown(wrong) == []


def test_the_ground_floor_stands_alone() -> None:
    """What every room may use uses no room."""
    wrong = [one for one in arrows() if one.source in GROUND and one.ours and one.target not in GROUND]
    assert shown(wrong) == []


def test_a_folder_knows_the_ground_floor_and_itself() -> None:
    """From another folder a room takes public names only, and from the top level only the ground floor."""
    public = public_names()
    wrong = [
        one
        for one in arrows()
        if one.ours
        and folder_of(one.source) not in ("", "cli", folder_of(one.target))
        and (folder_of(one.source), folder_of(one.target)) not in STANDS_ON
        and one.target not in GROUND
        and one.name != "__version__"
        and not (folder_of(one.target) and one.name in public)
    ]
    assert shown(wrong) == []


def test_nobody_imports_the_command_line() -> None:
    """The command line assembles; it offers nothing."""
    wrong = [one for one in arrows() if one.ours and folder_of(one.target) == "cli" and folder_of(one.source) != "cli"]
    assert shown(wrong) == []


def test_there_are_no_circles() -> None:
    """No module needs, however indirectly, a module that needs it; imports inside functions count too."""
    graph: dict[str, set[str]] = {module: set() for module in modules()}
    for one in arrows():
        if one.ours and one.target != one.source:
            graph[one.source].add(one.target)
    TopologicalSorter(graph).prepare()


def test_heavy_libraries_are_imported_on_use() -> None:
    """Importing a module of ours never imports an extra or a library that costs seconds; the command line may."""
    wrong = [one for one in arrows() if one.at_top and one.library in LAZY and not one.source.startswith("cli")]
    assert shown(wrong) == []


def test_the_package_and_the_ground_floor_import_no_framework() -> None:
    """The way in costs nothing: no LlamaIndex, no numpy, before a public name is used."""
    wrong = [one for one in arrows() if one.source in {"", "errors", "extras"} and one.at_top and not one.ours]
    assert [one for one in wrong if one.library not in sys.stdlib_module_names] == []

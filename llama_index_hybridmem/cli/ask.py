"""`hybridmem ask`: one question, or a prompt for many, answered from a store."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError, HybridMemoryError
from ..routing.decision import Route
from .options import LLM_HELP, Json, Store
from .traces import Traces, measured

if TYPE_CHECKING:
    from .answer import Answer

_ENDS = frozenset({"", "quit", "exit"})


def ask(
    store: Store,
    question: Annotated[str | None, typer.Argument(help="Without one: a prompt, until quit or Ctrl-D.")] = None,
    route: Annotated[Route | None, typer.Option(help="Always this route, in place of the rules' choice.")] = None,
    llm: Annotated[str | None, typer.Option(metavar="NAME", help=LLM_HELP)] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Passages to answer from.")] = 5,
    hops: Annotated[int, typer.Option(min=1, max=2, help="Of the graph search.")] = 2,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", metavar="KEY=VALUE", help="Only such passages; may be repeated.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show ranks per memory, paths and evidence.")] = False,
    traces: Traces = None,
    as_json: Json = False,
) -> None:
    """Ask a store.

    You see which memory answered, from which sources, in how many milliseconds. Without --llm no language model is
    asked: you get the sources, their facts and their best sentences. With --json and no question, each line of standard
    input is a question and each line of output an answer.
    """
    from . import screen
    from .answer import ask as answered
    from .llms import resolve
    from .store import open_index

    restricted = condition(filters or ())
    with screen.results_only():
        model = resolve(llm)
        index = open_index(store, warm=route is not Route.PARAMETRIC)
    with index, measured(traces):
        mode = {} if model is not None else {"response_mode": "no_text"}
        options: dict[str, Any] = {"similarity_top_k": top_k, "hops": hops, "filters": restricted, "route": route}
        engine = index.as_query_engine(model, **options, **mode)
        for each in _questions() if question is None else [question]:
            try:
                with screen.results_only():
                    answer = answered(engine, each, model)
            except HybridMemoryError as error:
                if question is not None:
                    raise
                _apologise(each, error, as_json=as_json)
            else:
                _show(answer, explain=explain, as_json=as_json, many=question is None)


def _apologise(question: str, error: HybridMemoryError, *, as_json: bool) -> None:
    """Say that one of many questions failed; the next one may not."""
    from . import screen

    if as_json:
        screen.write_json({"question": question, "error": str(error)}, lines=True)
    else:
        screen.aside().print(f"hybridmem: {error}", markup=False)


def _show(answer: Answer, *, explain: bool, as_json: bool, many: bool) -> None:
    from . import screen
    from .layout import view

    if as_json:
        screen.write_json(answer.to_json(), lines=many)
    else:
        screen.page().print(view(answer, explain=explain), *([""] if many else []), sep="\n")


def condition(filters: Sequence[str]) -> dict[str, Any] | None:
    """Read KEY=VALUE conditions, all of which must hold; a value that reads as a number matches as text, too.

    Raises:
        ConfigurationError: one without a key or an equals sign.
    """
    parts = []
    for text in filters:
        key, sign, value = text.partition("=")
        if not key or not sign:
            raise ConfigurationError(f"--filter {text!r} is not understood; KEY=VALUE is")
        ways = [{"key": key, "operator": "==", "value": reading} for reading in _readings(value)]
        parts.append({"condition": "or", "filters": ways})
    return {"condition": "and", "filters": parts} if parts else None


def _readings(value: str) -> list[str | float]:
    """The text, and the number where it is one; LlamaIndex's filters carry no truth values."""
    try:
        read = json.loads(value)
    except ValueError:
        return [value]
    return [value, read] if isinstance(read, int | float) and not isinstance(read, bool) else [value]


def _questions() -> Iterator[str]:
    """Questions from standard input, one a line, until an empty one, "quit" or its end."""
    from .screen import aside

    console = aside()
    if sys.stdin.isatty():
        console.print("Ask; an empty line ends it.")
    while True:
        try:
            line = console.input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if line.lower() in _ENDS:
            return
        yield line

"""`hybridmem audit …`: is the log whole, what would be answered today, what is kept and forgotten; decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError
from .options import LLM_HELP, Json, Store

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from ..costs.audit.log import AuditLog
    from ..costs.audit.replay import Comparison, SourceChange
    from ..costs.audit.verify import Verdict

app = typer.Typer(no_args_is_help=True, help="Check the audit log, ask again, keep for so long, forget.")

Log = Annotated[Path, typer.Argument(metavar="FILE", help="The audit log.")]
KeyEnv = Annotated[
    str | None, typer.Option(metavar="NAME", help="The environment variable with the key that the log is sealed with.")
]
_BROKEN = 1
_SHOWN = 12


@app.command()
def verify(
    file: Log,
    head: Annotated[
        str | None, typer.Option(metavar="SEQ:HASH", help="A head kept elsewhere; without one a cut end goes unseen.")
    ] = None,
    key_env: KeyEnv = None,
    as_json: Json = False,
) -> None:
    """Look for the first line that was changed, removed, inserted or moved; exit code 1 when there is one."""
    from ..costs.audit.chain import Head
    from . import screen

    verdict = _opened(file, key_env, known=head is not None).verify(None if head is None else Head.read(head))
    if as_json:
        screen.write_json(verdict.to_json())
    else:
        page = screen.page()
        page.print(_verdict_view(verdict, head is not None))
        if verdict.ok:
            page.print(f"Head      {verdict.head}", soft_wrap=True)  # on one line, to be copied
    if not verdict.ok:
        raise typer.Exit(_BROKEN)


@app.command()
def replay(
    file: Log,
    answer: Annotated[str, typer.Argument(metavar="ID", help="The answer's id, or its beginning.")],
    store: Store,
    llm: Annotated[str | None, typer.Option(metavar="NAME", help=LLM_HELP)] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Passages to answer from; else as many as the record has.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask an audited question again, and show what has changed: sources, route, prompt, model, answer.

    The log must keep texts (AuditLog(texts=True)). Without --llm only the route and the sources are compared.
    """
    from ..costs.audit.replay import question_of
    from ..costs.audit.replay import replay as replayed
    from . import screen
    from .llms import resolve
    from .store import open_index

    record = _record(_opened(file, None), answer)
    question_of(record)  # says why it cannot be asked again, before a store is opened
    with screen.results_only():
        model = resolve(llm)
        with open_index(store, warm=True) as index:
            mode = {} if model is not None else {"response_mode": "no_text"}
            options = {"similarity_top_k": top_k or len(record["sources"]) or None, "citations": bool(record["cited"])}
            found = replayed(record, index.as_query_engine(model, **options, **mode))
    if as_json:
        screen.write_json({"question": question_of(record), **found.to_json()})
    else:
        screen.page().print(*_comparison_view(record, found), sep="\n")


@app.command()
def prune(
    file: Log,
    days: Annotated[float, typer.Option(help="Older records are removed.")],
    key_env: KeyEnv = None,
    as_json: Json = False,
) -> None:
    """Remove old records; one line stands for them, and the chain holds as before."""
    from . import screen

    if not days > 0:
        raise ConfigurationError(f"--days: a number above 0 is expected, not {days:g}")
    count = _opened(file, key_env, keep_days=days).prune()
    _told(f"{count:,} records removed", {"removed": count}, as_json, screen)


@app.command()
def forget(
    file: Log,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Whose.")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Whose; with --user, records of both.")] = None,
    key_env: KeyEnv = None,
    as_json: Json = False,
) -> None:
    """Erase a person's names, texts and hashes of texts; the records stay, and the chain holds as before."""
    from . import screen

    if user is None and tenant is None:
        raise ConfigurationError("whose records? Give --user NAME, --tenant NAME, or both")
    count = _opened(file, key_env).forget(user=user, tenant=tenant)
    _told(f"{count:,} records have no personal part any more", {"erased": count}, as_json, screen)


def _opened(file: Path, key_env: str | None, *, known: bool = False, **options: Any) -> AuditLog:
    """Open a log; a file of something else is none, unless it is known to have been one."""
    from ..costs.audit.file import holds_records
    from ..costs.audit.log import AuditLog

    if not file.is_file():
        raise ConfigurationError(f"no audit log {file}")
    if not known and not holds_records(file):
        raise ConfigurationError(f"{file} is no audit log: not one of its lines is a record of AuditLog's")
    return AuditLog(file, key=key_env, **options)


def _record(log: AuditLog, id_: str) -> dict[str, Any]:
    """The answer of that id, or the only one that begins so."""
    found = {record["id"]: record for record in log.records() if str(record.get("id", "")).startswith(id_)}
    if id_ in found:
        return found[id_]
    if len(found) != 1:
        raise ConfigurationError(f"{len(found) or 'no'} answers in {log.path} have an id that begins with {id_!r}")
    return next(iter(found.values()))


def _told(line: str, value: Mapping[str, Any], as_json: bool, screen: Any) -> None:
    if as_json:
        screen.write_json(dict(value))
    else:
        screen.page().print(line, markup=False)


def _grid() -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _text(said: str, style: str = "") -> Text:
    """Text of a log, on one line and without what would move the terminal's cursor or colour what follows."""
    from rich.text import Text

    from ..costs.report.wording import clean

    return Text(clean(said), style)


def _verdict_view(verdict: Verdict, anchored: bool) -> Table:
    table, fault = _grid(), verdict.fault
    if fault is None:
        table.add_row("Chain", _text("holds", "green"))
    else:
        table.add_row("Chain", _text(f"broken at line {fault.line}, {fault.problem}: {fault.message}", "red"))
    table.add_row("Answers", f"{verdict.answers:,}, in {verdict.lines:,} lines{'' if fault is None else ' before it'}")
    table.add_row("From, to", f"{_when(verdict.since)}, {_when(verdict.until)}")
    for name in ("erased", "repaired", "pruned"):
        if getattr(verdict, name):
            table.add_row(name.capitalize(), f"{getattr(verdict, name):,}")
    if anchored and fault is None:
        table.add_row("Given head", "found" if verdict.anchored else "pruned since, so not compared")
    if fault is None and not anchored:
        table.add_row("", "A cut end shows only against a head that was kept elsewhere: --head")
    return table


def _comparison_view(record: Mapping[str, Any], found: Comparison) -> list[Any]:
    from rich.table import Table

    head = _grid()
    head.add_row("Question", _text(record["personal"]["question"]))
    head.add_row("Answered", _when(record["at"]))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("", "then", "now", ""):
        table.add_column(name, overflow="fold")
    for each in found.fields:
        said = "–" if each.same is None else "same" if each.same else _text("different", "red")
        table.add_row(each.name, _text(each.was or "–"), _text(each.now or "–"), said)
    return [head, table, *([_sources_view(found)] if found.sources else []), *(_text(each) for each in found.remarks)]


def _sources_view(found: Comparison) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("source", "document", "then", "now", ""):
        table.add_column(name, overflow="fold", justify="right" if name in ("then", "now") else "left")
    for each in found.sources:
        style = "" if each.state == "same" else "red"
        ranks = (str(rank) if rank else "–" for rank in (each.was, each.now))
        table.add_row(_text(each.node_id[:_SHOWN]), _text(each.ref_doc_id or "–"), *ranks, _text(_state(each), style))
    return table


def _state(change: SourceChange) -> str:
    return f"{change.state}: {', '.join(change.changes)}" if change.changes else change.state


def _when(at: float | None) -> str:
    return "–" if at is None else datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")

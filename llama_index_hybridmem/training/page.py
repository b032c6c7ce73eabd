"""The report of a training run as one HTML page that loads nothing and runs nothing; writes no file, needs no extra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import unescape
from pathlib import Path
from typing import Any

from llama_index_hybridmem.export import report_page
from llama_index_hybridmem.export.drawing import Bar, pairs
from llama_index_hybridmem.export.report_page import table, text
from llama_index_hybridmem.training.drawing import Axis, Line, Whisker, curves
from llama_index_hybridmem.training.estimates import duration
from llama_index_hybridmem.training.learning_curve import Fit
from llama_index_hybridmem.training.overfitting import points, stretch

_STYLE = Path(report_page.__file__).parent / "report_page.css"
_NONE = "–"
_DRAWN = 60  # points of a fitted curve
_BESIDE = 13  # letters that have room beside a bar

Row = Mapping[str, Any]


def page(report: Row) -> str:
    """Write the page.

    Args:
        report: as report.json has it: "name" and, each left out if missing or None, "recipe", "data", "warnings",
            "losses", "kept_step", "steps", "planned_steps", "seconds", "scores", "learning_curve", "scaling_curve",
            "lineage" and "answers"; the same report gives the same bytes.
    """
    title = f"Training run: {text(report.get('name') or 'without a name')}"
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>",
        f'<header><h1>{title}</h1>\n<p class="lead">{text(_lead(report))}</p></header>',
        *_figures(report),
        *_warnings(report.get("warnings") or ()),
        *_losses(report),
        *_scores(report.get("scores") or {}),
        *_learning(report.get("learning_curve") or {}),
        *_scaling(report.get("scaling_curve") or {}),
        *_answers(report.get("answers") or ()),
        *_making(report),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _lead(report: Row) -> str:
    recipe, steps, kept = (report.get(name) for name in ("recipe", "steps", "kept_step"))
    method = (recipe or {}).get("method")
    rank = f" of rank {recipe['rank']}" if recipe and method in ("lora", "qlora") and "rank" in recipe else ""
    told = "" if method is None else f"Method {method}{rank}. "
    if steps is None:
        return told
    planned = report.get("planned_steps") or steps
    early = f" of {planned:,} planned" if steps < planned else ""
    keeps = "" if kept is None else f"; kept is what step {kept:,} had learned"
    return f"{told}{steps:,} steps{early}{keeps}."


def _figures(report: Row) -> Iterator[str]:
    data, losses, after = report.get("data") or {}, report.get("losses") or (), _right(report, "after")
    train, dev = points(losses, "loss"), points(losses, "dev_loss")
    rest = ", ".join(f"{name} {data[name]:,}" for name in ("replayed", "dev", "test") if data.get(name))
    shown = []
    if data.get("train") is not None:
        shown.append(("Rows", f"{data['train']:,}", rest))
    if dev:
        best = min(loss for _, loss in dev)
        shown.append(("Dev loss", f"{best:.3f}", f"lowest; {dev[0][1]:.3f} at first, nats per token"))
    elif train:
        shown.append(("Train loss", f"{train[-1][1]:.3f}", f"last; {train[0][1]:.3f} at first, nats per token"))
    if after:
        before = _right(report, "before")
        shown.append(("Right answers", f"{after['mean']:.1%}", f"{before['mean']:.1%} before" if before else ""))
    if report.get("seconds") is not None:
        shown.append(("Time", duration(report["seconds"]), "of training alone"))
    yield '<dl class="figures">'
    for name, told, note in shown:
        yield f'<div class="card"><dt>{name}</dt><dd>{text(told)}</dd><dd class="dim">{text(note)}</dd></div>'
    yield "</dl>"


def _right(report: Row, when: str) -> Row:
    scores: Row = report.get("scores") or {}
    return (scores.get(when) or {}).get("right") or {}


def _warnings(warnings: Sequence[str]) -> Iterator[str]:
    if warnings:
        yield "<section><h2>Before you use it</h2>"
        yield f'<ul class="warnings">{"".join(f"<li>{text(each)}</li>" for each in warnings)}</ul></section>'


def _losses(report: Row) -> Iterator[str]:
    losses, kept = report.get("losses") or (), report.get("kept_step")
    train, dev = points(losses, "loss"), points(losses, "dev_loss")
    wrong = stretch(losses)
    lines = [
        Line("train", "five", train),
        Line("dev", "one", dev, [Whisker(step, loss, loss, loss) for step, loss in dev]),
    ]
    marks = [] if kept is None else [(float(kept), f"kept, step {kept:,}")]
    svg = curves("Loss by step", lines, Axis("step", "{:,.0f}".format), Axis("loss, nats per token"), marks, wrong)
    if not svg:
        return
    note = "Shaded: the dev loss rises while the train loss falls on, which is overfitting. " if wrong else ""
    note += (
        "Loss of the answers' tokens; a lower dev loss is better." if dev else "No dev rows: overfitting is not seen."
    )
    yield _section("Loss", "", svg, note)


def _scores(scores: Row) -> Iterator[str]:
    rows = [(_plain(name), each) for name, each in (scores.get("kinds") or {}).items()]
    if not rows:
        return
    drawn = [(_short(name), _bar(each.get("before")), _bar(each.get("after"))) for name, each in rows]
    gained: Row = scores.get("difference") or {}
    lead = ""
    if gained:
        low, high = 100 * gained["low"], 100 * gained["high"]
        lead = f"{100 * gained['mean']:+.1f} points on the same questions ({low:+.1f} to {high:+.1f})."
    svg = pairs("Right answers by kind of noise, before and after training", ("before", "after"), drawn)
    yield _section("Right answers, by kind of noise", lead, svg, "Lines are 95 % intervals.", close=False)
    told = [("all", scores), *rows] if scores.get("before") else rows
    yield table(("kind", "#rows", "#before", "#after", "#gained, points"), [_score_row(*each) for each in told])
    yield "</section>"


def _score_row(name: str, each: Row) -> tuple[str, ...]:
    before, after = (each.get(when) or {} for when in ("before", "after"))
    one, other = before.get("right") or {}, after.get("right") or {}
    gained = f"{100 * (other['mean'] - one['mean']):+.1f}" if one and other else _NONE
    return (name, f"{after.get('n', _NONE)}", _share(one), _share(other), gained)


def _share(right: Row) -> str:
    return f"{right['mean']:.1%} ({right['low']:.1%} to {right['high']:.1%})" if right else _NONE


def _bar(summary: Row | None) -> Bar | None:
    right = (summary or {}).get("right")
    return Bar(right["mean"], right["low"], right["high"]) if right else None


def _learning(curve: Row) -> Iterator[str]:
    measured = [Whisker(*(each[name] for name in ("rows", "score", "low", "high"))) for each in curve.get("points", ())]
    if not measured:
        return
    lines, sizes = [Line("measured", "one", (), measured)], sorted({each.x for each in measured})
    first, last = sizes[0], 2 * sizes[-1]
    if curve.get("fit"):
        fit = Fit(**curve["fit"])
        steps = [first * (last / first) ** (place / _DRAWN) for place in range(_DRAWN + 1)]
        lines.append(Line("fitted", "two", [(at, fit.at(at)) for at in steps], dashed=True))
        most = min(1.0, fit.at(sizes[-1]) + curve["at_most"])
        lines.append(Line("at most", "five", [(first, most), (last, most)], dashed=True))
        sizes.append(last)
    x, y = Axis("rows, on a logarithmic scale", "{:,.0f}".format, sizes, True), Axis("score", "{:.3g}".format)
    yield _section("What more data would buy", curve.get("sentence", ""), curves("Score by rows", lines, x, y))


def _scaling(curve: Row) -> Iterator[str]:
    scales = curve.get("scales", ())
    if not scales:
        return
    lines = []
    for name, key, colour in (("task", "task", "one"), ("general questions", "general", "two")):
        known = [(each["scale"], each[key]) for each in scales if each.get(key)]
        whiskers = [Whisker(scale, of["mean"], of["low"], of["high"]) for scale, of in known]
        lines.append(Line(name, colour, [(each.x, each.y) for each in whiskers], whiskers))
    used = curve["recommended"]
    x = Axis("share of the adapter: 0 is the base, 1 as trained", at=[each["scale"] for each in scales])
    svg = curves("Scores by scale of the adapter", lines, x, Axis("score"), [(used, f"use {used:g}")])
    yield _section("How much of the adapter to use", curve.get("sentence", ""), svg, "Lines are 95 % intervals.")


def _answers(answers: Sequence[Row]) -> Iterator[str]:
    names = ("question", "expected", "before", "after")
    rows = [(*(each.get(name, "") for name in names), ", ".join(each.get("kinds") or ())) for each in answers]
    if rows:
        yield f"<section><h2>Some answers</h2>{table((*names, 'kinds of noise'), rows)}</section>"


def _making(report: Row) -> Iterator[str]:
    lineage = {name: value for name, value in (report.get("lineage") or {}).items() if name != "recipe"}
    tables = [
        table(("name", "value"), list(_flat(of)), title)
        for title, of in (("Recipe", report.get("recipe")), ("Rows", report.get("data")), ("Lineage", lineage))
        if of
    ]
    if tables:
        yield f"<section><h2>How it was made</h2>{''.join(tables)}</section>"


def _flat(of: Row, before: str = "") -> Iterator[tuple[str, str]]:
    """Names and values, those of mappings inside with the names that lead to them."""
    for name, value in of.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}, ")
        elif isinstance(value, list | tuple):
            yield f"{before}{name}", ", ".join(map(str, value)) or _NONE
        else:
            yield f"{before}{name}", _NONE if value is None else str(value)


def _section(head: str, lead: str, svg: str, note: str = "", close: bool = True) -> str:
    told = f'<p class="lead">{text(lead)}</p>' if lead else ""
    below = f'<p class="dim">{text(note)}</p>' if note else ""
    return f'<section><h2>{head}</h2>{told}<div class="card">{svg}{below}</div>{"</section>" if close else ""}'


def _plain(name: str) -> str:
    """A name without what cannot be written; a drawing escapes it."""
    return unescape(text(name))


def _short(name: str) -> str:
    return name if len(name) <= _BESIDE else f"{name[: _BESIDE - 1]}…"

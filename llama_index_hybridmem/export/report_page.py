"""The report of a training set as one HTML page that loads nothing and runs nothing; writes no file, needs no extra."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from llama_index_hybridmem.export import drawing
from llama_index_hybridmem.export.description import Description, Rate
from llama_index_hybridmem.export.shapes import LengthReport, Spread

_HERE = Path(__file__).parent
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NONE = "–"


def page(found: Description) -> str:
    """Write the page.

    Args:
        found: of the set; the same description gives the same bytes.
    """
    style = (_HERE / "report_page.css").read_text(encoding="utf-8")
    title = f"Training set {text(found.name)}"
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>",
        f'<header><h1>{title}</h1>\n<p class="lead">{text(found.verdict[1])}</p></header>',
        *_figures(found),
        *_warnings(found),
        *_noise(found),
        *_lengths(found.lengths),
        *_content(found),
        *_checks(found),
        *_making(found),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def text(any_: object) -> str:
    """Any text as it stands in a page, without what would turn or hide what stands beside it."""
    return escape(_UNWRITABLE.sub("\ufffd", str(any_)))


def table(head: Sequence[str], rows: Sequence[Sequence[object]], title: str = "", note: str = "") -> str:
    """A table; columns whose name begins with # hold numbers. "" without rows."""
    if not rows:
        return ""
    number = [' class="number"' if name.startswith("#") else "" for name in head]
    cells = zip(head, number, strict=True)
    heads = "".join(f'<th scope="col"{kind}>{text(name.removeprefix("#"))}</th>' for name, kind in cells)
    body = "\n".join(f"<tr>{_row(row, number)}</tr>" for row in rows)
    told = f"<h3>{text(title)}</h3>" if title else ""
    below = f'<p class="dim">{text(note)}</p>' if note else ""
    return (
        f'<div class="card">{told}<div class="scroll" tabindex="0" role="region" aria-label="{text(title or head[0])}">'
        f"<table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>{below}</div>"
    )


def _row(row: Sequence[object], number: Sequence[str]) -> str:
    first, *others = row
    cells = "".join(f"<td{kind}>{text(each)}</td>" for each, kind in zip(others, number[1:], strict=True))
    return f'<th scope="row">{text(first)}</th>{cells}'


def _figures(found: Description) -> Iterator[str]:
    tallies, lengths = found.tallies, found.lengths
    shown = [
        ("Records", f"{tallies.records:,}", ", ".join(f"{split} {n:,}" for split, (n, _) in tallies.splits.items())),
        ("Abstained", _share(tallies.abstained, tallies.records), f"{tallies.abstained:,} records"),
        ("Passages", f"{tallies.passages:,}", f"{_share(tallies.undamaged, tallies.records)} of the records undamaged"),
    ]
    if lengths is not None and lengths.total.longest is not None:
        note = f"longest row; max_length {lengths.recommended:,} cuts nothing"
        shown.append(("Tokens", f"{lengths.total.longest:,}", note))
    yield '<dl class="figures">'
    for name, told, note in shown:
        yield f'<div class="card"><dt>{name}</dt><dd>{told}</dd><dd class="dim">{text(note)}</dd></div>'
    yield "</dl>"


def _warnings(found: Description) -> Iterator[str]:
    if found.warnings:
        yield "<section><h2>Before you train on it</h2>"
        yield f'<ul class="warnings">{"".join(f"<li>{text(each)}</li>" for each in found.warnings)}</ul></section>'


def _noise(found: Description) -> Iterator[str]:
    noise = found.noise
    if not noise.lines:
        return
    yield "<section><h2>Noise: target and achieved</h2>"
    if noise.mean_difference is not None:
        yield f'<p class="lead">On average a kind is {100 * noise.mean_difference:.1f} points off its target.</p>'
    drawn = [(each.kind, _drawn(each.target), _drawn(each.achieved)) for each in noise.lines]
    svg = drawing.pairs("Target and achieved share of each kind of noise", ("target", "achieved"), drawn)
    yield f'<div class="card">{svg}<p class="dim">Lines are 95 % intervals.</p></div>'
    rows = [
        (
            each.kind,
            _rate(each.target),
            _rate(each.natural),
            _NONE if each.injected is None else f"{each.injected:.1%}",
            _rate(each.achieved),
            _NONE if each.difference is None else f"{100 * each.difference:+.1f}",
        )
        for each in noise.lines
    ]
    head = ("kind", "#target", "#as retrieved", "#injected", "#achieved", "#off, points")
    yield table(
        head,
        rows,
        note="Shares of passages; of questions for order and gold_removed. As retrieved and achieved: found by "
        f"detectors in {noise.measured:,} records before and after the damage, corrected for their errors. Injected: "
        "exact, by provenance, and on top of what the passages had."
        f"{''.join(f' {each.kind}: {each.why}.' for each in noise.lines if each.why)}",
    )
    yield "</section>"


def _lengths(found: LengthReport | None) -> Iterator[str]:
    if found is None or found.recommended is None or found.p99_length is None:
        return
    yield "<section><h2>Lengths</h2>"
    yield (
        f'<p class="lead">At max_length {found.max_length:,}, {found.cut:,} of {found.rows:,} rows would lose the end '
        f"of their answer and {found.gone:,} all of it. {found.recommended:,} cuts nothing; {found.p99_length:,} would "
        f"cut {found.p99_loses:,}.</p>"
    )
    marks = ((found.max_length, f"max_length {found.max_length:,}"), (found.recommended, "cuts nothing"))
    svg = drawing.histogram("Rows by their length in tokens", found.total.histogram, marks)
    yield f'<div class="card"><h3>Rows by their length in tokens</h3>{svg}</div>'
    parts = (("prompt", found.prompt), ("completion", found.completion), ("total", found.total))
    rows = [(name, *_numbers(of)) for name, of in parts]
    head = ("tokens", "#shortest", "#median", "#95 %", "#99 %", "#longest")
    yield table(head, rows, note=f"Format {found.format}; counted by {found.tokenizer}.")
    yield "</section>"


def _content(found: Description) -> Iterator[str]:
    tallies = found.tallies
    yield "<section><h2>What is in it</h2>"
    rows = [
        (split, f"{n:,}", f"{can:,}", f"{n - can:,}", _share(n - can, n)) for split, (n, can) in tallies.splits.items()
    ]
    yield table(("split", "#records", "#answered", "#abstained", "#share"), rows, "Answers and abstentions")
    kinds = [
        (kind, *(f"{splits.get(split, 0):,}" for split in tallies.splits)) for kind, splits in tallies.kinds.items()
    ]
    yield table(("kind", *(f"#{split}" for split in tallies.splits)), kinds, "Records with each kind of noise")
    origins = [(name, f"{n:,}") for name, n in tallies.origins.items()]
    yield table(("origin", "#records"), origins, "Where the questions come from")
    domains = [(name or "(none)", f"{n:,}") for name, n in tallies.domains.items()]
    yield table(("domain", "#records"), domains[:50] if len(domains) > 1 else [], "Domains")
    operators = sorted(tallies.operators.items(), key=lambda each: (-each[1], each[0]))
    yield table(("operator", "#times"), [(name, f"{n:,}") for name, n in operators], "What was done")
    yield table(("reason", "#drafts"), [(why, f"{n:,}") for why, n in found.left_out.items()], "Left out")
    yield "</section>"


def _checks(found: Description) -> Iterator[str]:
    twins, leaks, facts = found.duplicates, found.leakage, found.facts
    yield "<section><h2>Checks</h2>"
    yield table(
        ("of dev and test", "#in all", "#answer in train, too", "#distractors in train"),
        [
            (name, f"{each.held:,}", f"{each.as_gold:,}", f"{each.as_distractor:,}")
            for name, each in (("documents that answer", leaks.documents), ("passages that answer", leaks.passages))
        ],
        "Leakage",
        "The second column must be 0.",
    )
    pairs = [(each.first[1], each.second[1], " and ".join(each.splits)) for each in twins.pairs]
    note = f"{twins.across:,} questions have one in another split, {twins.within:,} in their own."
    yield table(("question", "another", "splits"), pairs, "Near-duplicate questions", note)
    conflicts = [(each.first[1], *(f"{id_}" for id_, _ in (each.first, each.second))) for each in twins.conflicts]
    note = f"{twins.conflicting:,} records in all."
    yield table(("question", "id", "id"), conflicts, "The same question, answered differently", note)
    note = "" if facts.share is None else f"{facts.share:.1%} of the answers."
    yield table(("id", "facts"), facts.examples, "Facts that the passages do not have", note)
    odd = [(each.trait, each.usual, each.found, f"{each.count:,}", ", ".join(each.ids)) for each in found.style]
    yield table(("trait", "most", "these", "#records", "ids"), odd, "Answers unlike the others")
    drift = [
        (each.trait, each.first, each.last, f"{each.p:.2g}", "yes" if each.drifted else "no") for each in found.drift
    ]
    yield table(("trait", "first third", "last third", "#p", "drift"), drift, "Over time")
    yield table(("id", "fault"), found.tallies.faulty, "Faults", "There must be none.")
    yield "</section>"


def _making(found: Description) -> Iterator[str]:
    options = found.settings.get("options", {})
    rows = [(name, value) for name, value in options.items() if name != "wording"]
    rows += [(f"wording, {name}", value) for name, value in options.get("wording", {}).items()]
    rows += [
        ("hash of the options", found.settings.get("hash", _NONE)),
        ("version", found.settings.get("made_by", _NONE)),
    ]
    if found.profile is not None:
        rows += [("hash of the profile", found.profile.hash), ("source of the profile", found.profile.source or _NONE)]
    yield "<section><h2>How it was made</h2>"
    yield table(("option", "value"), rows)
    yield "</section>"


def _drawn(rate: Rate | None) -> drawing.Bar | None:
    return None if rate is None else drawing.Bar(rate.share, rate.low, rate.high)


def _rate(rate: Rate | None) -> str:
    return _NONE if rate is None else f"{rate.share:.1%} ({rate.low:.1%} to {rate.high:.1%})"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else _NONE


def _numbers(of: Spread) -> tuple[str, ...]:
    found = (of.shortest, of.median, of.p95, of.p99, of.longest)
    return tuple(_NONE if number is None else f"{number:,}" for number in found)

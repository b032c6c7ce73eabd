"""The dataset card: a README.md that people and the Hugging Face hub understand; pure, knows no file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from llama_index_hybridmem.export.description import Description, Rate

YOURS = "<!-- from here on yours: it stays when the card is written again -->"
"""What follows this line in a card, and its ``license:``, are the user's."""

_TO_FILL = """
## Licence

Not stated. The passages are yours or your sources': name their licence here and in `license:` above before you share
this set, and whether its questions came from users who agreed to that.
"""
_LICENCE = re.compile(r"^license:.*$", re.MULTILINE)
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST = "n>1M"
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")  # and YAML takes no halves, escaped
_TELLING = re.compile(r"([\\`*\[\]<>|#]|(?<!\w)_|_(?!\w))")


def card(found: Description, old: str = "") -> str:
    """Write the card.

    Args:
        found: of the set.
        old: the card that is there; what its reader has put into it stays.
    """
    front = "\n".join(_front(found))
    licence = _LICENCE.search(old) if old.startswith("---\n") else None
    if licence is not None:
        front = _LICENCE.sub(lambda _: licence.group(), front)
    kept = old.partition(YOURS)[2] if YOURS in old else _TO_FILL
    return "\n".join([front, "", *_body(found), YOURS, kept.strip("\n"), ""])


def _front(found: Description) -> Iterator[str]:
    """What the hub reads; strings as JSON has them, which is YAML."""
    yield "---"
    yield f"pretty_name: {json.dumps(_NOT_YAML.sub(chr(0xFFFD), found.name), ensure_ascii=False)}"
    yield "license: unknown"
    yield "task_categories:\n- question-answering\n- text-generation"
    yield "tags:\n- rag\n- retrieval-augmented-generation\n- robustness\n- llama-index-hybridmem"
    size = next((name for limit, name in _SIZES if found.tallies.records < limit), _LARGEST)
    yield f"size_categories:\n- {size}"
    if found.files:
        yield "configs:"
    for place, (name, splits) in enumerate(found.files.items()):
        yield f"- config_name: {name}"
        if not place:
            yield "  default: true"
        yield "  data_files:"
        for split in splits:
            yield f"  - split: {split}\n    path: {name}/{split}-*.jsonl"
    yield "---"


def _body(found: Description) -> Iterator[str]:
    tallies, options = found.tallies, found.settings.get("options", {})
    yield f"# {told(found.name)}\n"
    yield (
        "Questions with the passages that a retriever found for them, damaged the way retrieved text is, and the "
        "answer where the damage has left its support, else an abstention. Made to fine-tune a language model for "
        f"reading retrieved context. {found.verdict[1]}\n"
    )
    yield f"Made by llama-index-hybridmem {found.settings.get('made_by', '(version unknown)')}.\n"
    yield from _warnings(found)
    yield "## What is in it\n"
    yield from table(
        ("split", "records", "answered", "abstained"),
        [(split, f"{n:,}", f"{can:,}", f"{n - can:,}") for split, (n, can) in tallies.splits.items()],
    )
    yield f"Questions: {_listed(tallies.origins)}. No noise at all: {tallies.undamaged:,} records.\n"
    if found.files:
        formats = ", ".join(f"`{name}/`" for name in found.files)
        yield f"Rows to train on: {formats}. Every row's whole story, clean and noisy passages with what was done to "
        yield "them, is in `records/`.\n"
    if found.left_out:
        yield f"Left out: {_listed(found.left_out)}.\n"
    yield "Parts are split by the documents that answer: none of them answers in two parts.\n"
    yield from _noise(found)
    yield from _lengths(found)
    yield "## How it was made\n"
    wanted = {name: value for name, value in options.items() if name != "wording"}
    yield from table(("option", "value"), [(name, json.dumps(value)) for name, value in wanted.items()])
    yield from table(("wording", "value"), [(k, json.dumps(v)) for k, v in options.get("wording", {}).items()])
    profile = "unknown" if found.profile is None else f"`{found.profile.hash}` ({told(found.profile.source or '-')})"
    yield f"Options `{found.settings.get('hash', 'unknown')}`, noise profile {profile}. The same version, options, "
    yield "profile and drafts give the same bytes.\n"
    yield "## Limits\n"
    yield from _limits(found)


def _warnings(found: Description) -> Iterator[str]:
    if found.warnings:
        yield "## Before you train on it\n"
        yield "\n".join(f"- {told(each)}" for each in found.warnings) + "\n"


def _noise(found: Description) -> Iterator[str]:
    yield "## Noise\n"
    rows = [
        (
            each.kind,
            _rate(each.target),
            _rate(each.natural),
            share(each.injected),
            _rate(each.achieved),
            "–" if each.difference is None else f"{100 * each.difference:+.1f}",
        )
        for each in found.noise.lines
    ]
    yield from table(("kind", "target", "as retrieved", "injected", "achieved", "off, points"), rows)
    yield (
        "Shares of passages; of questions for order and gold_removed. Target: the profile's. As retrieved and "
        f"achieved: what detectors found in {found.noise.measured:,} records before and after, corrected for their "
        "errors, with 95 % intervals. Injected: exact, by provenance.\n"
    )


def _lengths(found: Description) -> Iterator[str]:
    lengths = found.lengths
    if lengths is None or lengths.recommended is None:
        return
    yield "## Lengths\n"
    rows = [
        (name, *(f"{number:,}" for number in (of.median, of.p95, of.p99, of.longest) if number is not None))
        for name, of in (("prompt", lengths.prompt), ("completion", lengths.completion), ("total", lengths.total))
    ]
    yield from table(("tokens", "median", "95 %", "99 %", "longest"), rows)
    yield (
        f"Counted in `{lengths.format}` by {told(lengths.tokenizer)}. Set `max_length={lengths.recommended}` to lose "
        f"nothing; at {lengths.max_length:,}, {lengths.cut + lengths.gone:,} rows would be cut or dropped.\n"
    )


def _limits(found: Description) -> Iterator[str]:
    yield "- Damage is made, and re-checked word for word: an answer that its passages support in other words counts as"
    yield "  unsupported, and one whose words stand there by chance as supported."
    yield "- Whether training on it helps depends on the model and the kinds of noise: compare with the same model"
    yield "  prompted, and trained on the same questions without noise."
    if found.facts.share:
        yield f"- {found.facts.share:.1%} of the answers hold figures or names that their passages do not have."
    if found.tallies.origins.get("generated"):
        yield "- Some questions were written by a language model: easier, and closer to the passages, than people's."
    yield ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a Markdown table, a blank one behind it; nothing without rows."""
    if rows:
        yield f"| {' | '.join(head)} |"
        yield f"|{' --- |' * len(head)}"
        for row in rows:
            yield f"| {' | '.join(map(told, row))} |"
        yield ""


def told(text: str) -> str:
    """Any text on one line of Markdown, as it stands."""
    return _TELLING.sub(r"\\\1", " ".join(text.split()))


def share(value: float | None) -> str:
    """Say a share; "–" for an unknown one."""
    return "–" if value is None else f"{value:.1%}"


def _rate(rate: Rate | None) -> str:
    return "–" if rate is None else f"{rate.share:.1%} ({rate.low:.1%} to {rate.high:.1%})"


def _listed(counts: object) -> str:
    return ", ".join(f"{told(str(name))} {n:,}" for name, n in counts.items()) if isinstance(counts, dict) else ""

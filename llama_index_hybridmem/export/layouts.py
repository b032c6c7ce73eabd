"""Passages and question as the text of a prompt; pure, knows no language model and no damage.

What a passage says cannot pass for a part of the layout. Metadata stand on one line each. In ``numbered`` and
``plain`` a line of a text that begins like one of the layout's own (``[2]``, ``Question:``, ``Filename:``) gets a
backslash in front; in ``xml`` everything is escaped; in ``raft`` the tags of documents are. Nothing else is changed.
Whatever follows the last ``Question:`` line, or the last closing tag, is the question, as it was asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from html import escape

from llama_index_hybridmem.export.wording import Layout, Wording
from llama_index_hybridmem.noise.scene import DATE_FIELDS, SOURCE_FIELDS, TITLE, VERSION_FIELDS, Passage

FIELDS: Mapping[str, tuple[str, ...]] = {
    "title": (TITLE,),
    "source": SOURCE_FIELDS,
    "date": DATE_FIELDS,
    "version": VERSION_FIELDS,
}
"""The metadata fields that `Wording.shown` names together; the first one that a passage has is shown."""

LONGEST_VALUE = 200
"""Characters of a metadata value; the rest is cut off."""

_ENDS = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"  # what str.splitlines takes for the end of a line
_BLANKS = rf"(?:[^\S{_ENDS}]|[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff])*"
_NUMBERED = re.compile(rf"([{_ENDS}]{_BLANKS})(\[[ ]?\d+[ ]?\]|(?i:question)[ ]?:)")
_PLAIN = re.compile(rf"([{_ENDS}]{_BLANKS})((?i:filename|information|question)[ ]?:)")
_NUMBER, _NAME_END = re.compile(r"\[[ ]?\d"), re.compile(r":(?:(?<=[neNE]:)|(?<=[neNE][ ]:))")
_FOLDERS = re.compile(r"^(?:[A-Za-z]:)?[\\/](?:.*[\\/])?(?=.)")
"""Of a path that begins at the root: where a file lies on somebody's machine is nobody's to learn."""
_DOCUMENT = re.compile(r"<(?=\s*/?\s*(?i:document)\b)")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def prompt(question: str, passages: Sequence[Passage], wording: Wording) -> str:
    """Lay out the user's turn.

    Args:
        question: as asked; it stands at the end.
        passages: in the order in which the reader shall see them; the first is [1].
        wording: which layout, and which metadata are shown.
    """
    return _LAYOUTS[wording.layout](question, passages, wording)


def visible(passage: Passage, wording: Wording) -> dict[str, str]:
    """Give the metadata that a reader sees of a passage: name in `Wording.shown` to its value, on one line.

    Of a file's path that begins at the root, its name.
    """
    known, found = passage.metadata, dict[str, str]()
    for key, name in _sought(wording.shown):
        if key in known and name not in found and (value := one_line(known[key])):
            found[name] = value if key not in SOURCE_FIELDS else _FOLDERS.sub("", value) or value
    return found


@lru_cache
def _sought(shown: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The fields that are looked for, in order, each with the name under which it is shown."""
    return tuple((key, name) for name in shown for key in FIELDS.get(name, (name,)))


def one_line(value: object) -> str:
    """Give a metadata value on one line, of `LONGEST_VALUE` characters at most; "" for None."""
    return "" if value is None else " ".join(str(value).split())[:LONGEST_VALUE].rstrip()


def _numbered(question: str, passages: Sequence[Passage], wording: Wording) -> str:
    parts = []
    for number, each in enumerate(passages, start=1):
        values = visible(each, wording)
        title = values.pop("title", "")
        cells = [title, *(f"{name}: {value}" for name, value in values.items())]
        head = " | ".join(cell.replace("|", "/") for cell in cells if cell)
        parts.append(f"[{number}] {head}".rstrip() + "\n" + _guarded(_NUMBERED, each.text))
    return "\n\n".join([*parts, f"Question: {question}"])


def _plain(question: str, passages: Sequence[Passage], wording: Wording) -> str:
    parts = []
    for number, each in enumerate(passages, start=1):
        lines = "\n".join(f"{name}: {value}" for name, value in _named(each, number, wording))
        parts.append(f"{lines}\nInformation:\n{_guarded(_PLAIN, each.text)}")
    return "\n\n".join([*parts, f"Question: {question}"])


def _xml(question: str, passages: Sequence[Passage], wording: Wording) -> str:
    parts = []
    for number, each in enumerate(passages, start=1):
        fields = "".join(f"<{name}>{_escaped(value)}</{name}>" for name, value in _named(each, number, wording))
        parts.append(f"<Result>{fields}<Information>{_escaped(each.text)}</Information></Result>")
    return f"<Results>{''.join(parts)}</Results>\n\nQuestion: {question}"


def _raft(question: str, passages: Sequence[Passage], wording: Wording) -> str:
    parts = []
    for each in passages:
        lines = "".join(f"{name.capitalize()}: {value}\n" for name, value in visible(each, wording).items())
        head = lines + "\n" if wording.shown else ""  # the blank line tells where metadata end and the text begins
        parts.append(f"<DOCUMENT>{_DOCUMENT.sub('&lt;', head + each.text)}</DOCUMENT>\n")
    return "".join(parts) + question


_LAYOUTS: Mapping[Layout, Callable[[str, Sequence[Passage], Wording], str]] = {
    "numbered": _numbered,
    "plain": _plain,
    "xml": _xml,
    "raft": _raft,
}


def _named(passage: Passage, number: int, wording: Wording) -> list[tuple[str, str]]:
    """Metadata as Finetune-RAG names them: a file name first, which every passage has."""
    values = visible(passage, wording)
    key = "source" if "source" in values else next(iter(values), None)
    name = values.pop(key) if key else f"source {number}"
    return [("Filename", name), *((name.capitalize(), value) for name, value in values.items())]


def _guarded(lines: re.Pattern[str], text: str) -> str:
    if not _NUMBER.search(text) and not _NAME_END.search(text):  # as most texts: six times as fast as the pattern
        return text
    return lines.sub(r"\1\\\2", "\n" + text)[1:]


def _escaped(text: str) -> str:
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text), quote=False)

"""Finds passages that start or end in the midst of a sentence, as a splitter or a snippet cuts them; pure.

Only prose can be cut: headings, list items, tables, code and captions end without a full stop, and are told by their
form. A passage that was cut between two sentences is whole to every reader, and so to this one.
"""

from __future__ import annotations

import re

from llama_index_hybridmem.noise.edits import Span
from llama_index_hybridmem.noise.findings import Finding, of_passage
from llama_index_hybridmem.noise.scene import Passage, Scene

WORDS = 6
"""A line of fewer words, or of fewer than twice as many signs in scripts without blanks, is no prose but a title."""

_DOTS = r"(?:\.{3}|…)"
_STARTS_DOTTED = re.compile(rf"\s*[\"'“(\[]?{_DOTS}(?![A-Z])")
_ENDS_DOTTED = re.compile(rf"{_DOTS}[\"'”)\]]*\s*\Z")
_STARTS_OPEN = re.compile(r"\s*(?:[,;:)\]}”»、，。；：）」』]|[.?!](?![.\w/])|[-–—]\s?[a-z])")
_STARTS_SMALL = re.compile(r"\s*[\"'“‘(*_]{0,3}([a-zß-öø-ÿα-ωά-ώа-яё]\S*)\s+(\S+)")
_PARTICLES = frozenset("al bin da das de del della den der di dos du el ibn la le ten ter van von zu zur".split())
_NO_WORD = re.compile(r"[A-Z\d_(){}\[\]=<>/\\@#$]|\w\.\w|\w:")
"""What a word of prose that starts small does not have: "iPhone", "max_tokens", "pip.conf", "note:"."""

_ENDED = re.compile(
    r"[.!?…。．！？｡؟۔।॥።።։។။܀᙮⸮‽:;：；][\"'”’»›)\]}」』）】*_`~]*"  # a full stop, or what leads on to a list
    r"(?:\s*(?:\[[\w\s,;.–-]{1,24}\]|\(\d{1,4}\)|[¹²³⁰-⁹†‡*]{1,3}|:\d[\d–:-]*))*\s*\Z"  # and a note's number or page
)
_LAST = 40
"""Signs within which a full stop is looked for, with what may stand behind it."""

_NO_STOPS = re.compile(r"[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff]\W*\Z")
"""Thai, Lao, Tibetan, Burmese, Khmer: sentences end with a blank, or with signs that mean other things, too."""

_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_HANGING = re.compile(r"(?:[,–—(\[“‘{、，（「『]|\s-|\w-)\s*\Z")
_SMALL_WORDS = (
    "a an and as at because between but from if into nor of or our than the their these to was were when where which "
    "while whose will with"
)
_ENDS_SMALL = re.compile(rf"[a-z,]\s+(?:{'|'.join(_SMALL_WORDS.split())})\s*\Z")
"""No sentence of English ends in these; a heading neither."""

_FORMED = re.compile(r"\s*(?:#{1,6}\s|[-*+•◦▪]\s|\(?\w{1,3}[.)]\s|\||>|```|~~~|<|\[\d+\]|={3}|-{3}|!\[)")
_CAPTION = re.compile(
    r"\s*\W{0,2}(?:fig(?:ure|\.)|tab(?:le|\.)|image|photo|source|listing|chart|map)\b.{0,12}?[:.–-]", re.I
)
_CODE = re.compile(
    r"[{};=\\>]\s*\Z|\w\([\w, ]*\)\s*\Z"
    r"|^\s*(?:(?:def|class|if|for|while|with|try|else)\b.*:\s*\Z|(?:return|import|const|let|var)\s\S+\s*\Z)"
)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_STOP_INSIDE = re.compile(r"[。！？।؟۔]|[\u0590-\u06ff\uac00-\ud7af]\.")
_CAPITAL = re.compile(r"[A-ZÀ-ÖØ-ÞΑ-ΩА-Я]")


@of_passage("cut", "truncation")
def cut(passage: Passage, scene: Scene) -> Finding | None:
    """Starts or ends in the midst of a sentence; severity 1 when it does both, else ½."""
    text = passage.text
    if not text or text.isspace():
        return None
    head, tail = _head_is_cut(text), _tail_is_cut(text)
    if not (head or tail):
        return None
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    spans: tuple[Span, ...] = ((first, first),) * head + ((last, last),) * tail
    return Finding("truncation", _operator(text, head, tail), 1.0 if head and tail else 0.5, spans)


def _operator(text: str, head: bool, tail: bool) -> str:
    if head:
        return "truncate_chunk" if tail else "truncate_head"
    return "truncate_sentence" if _ends_dotted(text) else "truncate_tail"


def _ends_dotted(text: str) -> bool:
    return _ENDS_DOTTED.search(text, max(len(text) - 12, 0)) is not None


def _head_is_cut(text: str) -> bool:
    if _STARTS_DOTTED.match(text):
        return True
    line, _, rest = text.lstrip().partition("\n")
    if rest.startswith("|") and line.rstrip().endswith("|"):
        return line.count("|") < rest.partition("\n")[0].count("|")
    if _STARTS_OPEN.match(line):
        return _is_prose(line)
    small = _STARTS_SMALL.match(line)
    if small is None or _NO_WORD.search(small[1]) or (small[1] in _PARTICLES and _CAPITAL.match(small[2])):
        return False
    return _CAPITAL.search(text) is not None and _is_prose(line)


def _tail_is_cut(text: str) -> bool:
    if _ENDED.search(text, max(len(text) - _LAST, 0)):
        return _ends_dotted(text)
    if _NO_STOPS.search(text, max(len(text) - 8, 0)) or _in_code(text):
        return False
    rest, _, line = text.rstrip().rpartition("\n")
    if line.startswith("|"):
        above = rest.rstrip().rpartition("\n")[2]
        return above.startswith("|") and line.count("|") < above.count("|")
    if _ENDS_SMALL.search(line) and _CODE.search(line) is None:
        return True
    if _HANGING.search(line):
        return _is_prose(line) or not _FORMED.match(line)
    block = text.rstrip().rpartition("\n\n")[2]
    return _is_prose(line if _FORMED.match(line) else block) and _has_sentences(text)


def _has_sentences(text: str) -> bool:
    """Whether its author ends sentences at all, as far as can be seen: a chat without capitals may do without."""
    return _CAPITAL.search(text) is not None or _STOP_INSIDE.search(text) is not None


def _is_prose(line: str) -> bool:
    if _FORMED.match(line) or _CAPTION.match(line) or _CODE.search(line):
        return False
    if line.startswith(("    ", "\t")):
        return False
    signs = _UNSPACED.findall(line)
    return len(signs) >= 2 * WORDS or len(line.split()) >= WORDS


def _in_code(text: str) -> bool:
    return len(_FENCE.findall(text)) % 2 == 1 or text.rstrip().endswith(("```", "~~~"))

"""Whether an answer says that there is none; pure, knows no example, no score and no model.

English paraphrases are recognised by their build: sources that do not say, an answer that is not in the sources, a
speaker who cannot tell. Wordings of abstention in another language are recognised where they are given.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_TOLD = "given|provided|available|above|cited|retrieved|supplied|listed|present|numbered|accompanying"
_SOURCE = (
    rf"(?:(?:the|these|this|those|your|my|any of the|{_TOLD}) )(?:(?:{_TOLD}|\d+|two|three|four|five) )*"
    "(?:sources?|contexts?|passages?|documents?|texts?|excerpts?|snippets?|articles?|materials?|paragraphs?|chunks?)"
    r"\b(?! of | code)"
)
_PLACED = (
    "found|mentioned|stated|given|answered|contained|present|provided|determined|included|covered|specified|available|"
    "discussed|described|explained|addressed|listed|inferred|derived|located|known|disclosed|supported|directly|"
    "explicitly|anywhere|be|clear|possible to (?:tell|say|answer|determine)"
)
_SAY = (
    "(?:actually |explicitly |directly |really |even |seem to |appear to )?"
    "(?:say|state|mention|contain|provide|give|answer|specify|tell|include|indicate|have|cover|address|disclose|explain|"
    "describe|hold|offer|name|reveal|discuss|report)s?"
)
_NOTHING = "answers?|information|info|mention|evidence|indication|details?|statement|reference|data"
_PATTERNS = (
    # "not in the sources", "cannot be found in the given passages"
    rf"\bnot (?:(?:{_PLACED}) )*(?:in|by|from|within|anywhere in|based on|using) (?:any of )?{_SOURCE}",
    # "the sources do not say", but not "the sources do not say that it fell; they say that it was shut"
    rf"{_SOURCE} (?:(?:do|does|did|can|could) not|fails? to) {_SAY}\b(?! that \w)",
    rf"{_SOURCE} (?:(?:is|are) silent|lacks? |says? nothing|(?:has|have|gives?|contains?|provides?) no )",
    rf"\b(?:none|neither) of (?:{_SOURCE}|them) (?:{_SAY})\b",
    rf"\bno (?:given |provided )?(?:source|passage|document)s? (?:{_SAY})\b",
    # "there is no answer to this in the sources"
    rf"\bno (?:\w+ )?(?:{_NOTHING})\b(?: [\w']+){{0,9}}? (?:in|from|within) {_SOURCE}",
    rf"\Athere (?:is|are) no (?:\w+ )?(?:{_NOTHING})\b",
    r"\Athere (?:is|are) (?:not enough|insufficient|not sufficient) (?:information|context|evidence|data)\b",
    # the speaker
    r"\A(?:i|we) do not (?:know|have (?:\w+ ){0,2}(?:information|answer|data|details))\b(?! (?:how|why) to\b)",
    r"\A(?:i|we) (?:(?:can|could) not|(?:am|are|was|were) (?:unable|not able) to) "
    r"(?:find|answer|determine|locate|tell (?:from|whether|what|when|who|where|how many|how much)\b|say (?:from|what))",
    r"\A(?:the|this|your|that) (?:question|answer|information)(?: \w+){0,6}? (?:(?:is|was) not|(?:can|could) not be) "
    r"(?:answered|determined|found|inferred|established|given|stated|mentioned|provided|available|known|answerable)\b",
    r"\A(?:it|this|that) (?:can|could) not be (?:answered|determined|inferred|established)\b",
    r"\A[\w' ]{1,80} (?:is|are|was|were) not (?:explicitly |directly )?(?:mentioned|stated|specified)\Z",
)
_WHOLE = (
    r"(?:the answer is |it is |this is )?(?:unknown|n/a|unanswerable|not (?:stated|mentioned|specified|known|given|"
    r"answerable|provided|available|found|disclosed))",
    rf"(?:no|not enough|insufficient) (?:relevant )?(?:{_NOTHING})"
    r"(?: (?:is |was )?(?:given|provided|available|found|known))?(?: (?:about|on|for|to) [\w' ]{1,60})?",
    r"(?:i )?(?:can not|could not) (?:say|answer|tell|know|be (?:determined|answered|known|found))(?: this| that| it)?",
    r"i am not sure|do not know|no idea|not enough to go on",
)
_ABSTAINS = re.compile("|".join((*_PATTERNS, *(rf"\A(?:{each})\Z" for each in _WHOLE))))
_OPENING = re.compile(
    r"\A(?:(?:i am |we are |i'm |we're )?(?:very |so )?sorry|unfortunately|i apologi[sz]e|well|hmm|however|"
    rf"(?:based on|according to|from|given|in) {_SOURCE}|as far as i can (?:tell|see))\b[,.!:;]*(?: but| that)? *"
)
_CONCEDES = re.compile(r"\A(?:al|even )?though |\A(?:while|even if|whereas) ")
_GOES_ON = re.compile(
    r"(?:\b(?:but|however|although|nevertheless)|[.,;:!?] ?(?:still|yet|probably|likely|presumably|perhaps|maybe|"
    r"my guess|i (?:think|guess|believe|would say)|it is(?! not)|the answer is(?! not)))\b"
    rf"(?!,? (?:it|they|{_SOURCE}) (?:do |does |only )*(?:mention|describe|discuss|talk)s?\b)[ ,:]*\w+"
)
_STOP = re.compile(r"[.!?]+(?=\s|\Z)|[。！？\n]")
_STOPS = ".!?,;:。！？、\"'()*# "
_LONGEST = 2000  # signs of an answer that are read: who abstains has done so by then


def abstains(answer: str, wordings: Sequence[str] = ()) -> bool:
    """Say whether an answer, without citations, only says that it cannot be given.

    What goes on to offer an answer ("Not in the sources, but it is probably 1912") does not abstain, nor does an
    answer whose later sentences say what the sources leave out.

    Args:
        answer: any text.
        wordings: recognised as they are, but for case and punctuation at the end, in whatever language.
    """
    text = _folded(answer[:_LONGEST])
    for wording in filter(None, (_folded(each) for each in wordings)):
        if text.startswith(wording) and text[len(wording) : len(wording) + 1] in f"{_STOPS}\n".replace(" ", ""):
            return not _GOES_ON.search(text, len(wording))
    while (opening := _OPENING.match(text)) and opening.end():
        text = text[opening.end() :]
    stop = _STOP.search(text)
    first = text[: stop.start()] if stop else text
    match = None if _CONCEDES.match(first) else _ABSTAINS.search(first.rstrip(_STOPS))
    return match is not None and not _GOES_ON.search(text, match.end())


def _folded(text: str) -> str:
    """Lower case, negations written out, one blank between words, nothing but words at both ends."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    text = text.replace("can't", "can not").replace("cannot", "can not").replace("n't", " not")
    lines = (" ".join(line.split()) for line in text.strip().splitlines())
    return "\n".join(filter(None, lines)).strip(_STOPS)

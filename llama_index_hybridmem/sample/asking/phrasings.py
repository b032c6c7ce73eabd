"""The frames that a question is put in: outright, as a request, in keywords; pure, knows no fact and no document.

A wording of a fact fits into every frame of its form: ``direct`` a question of its own, ``clause`` what follows "tell
me", ``keywords`` what one types into a search box. Frames that are held out are used for the test part alone, where no
other frame is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Form = Literal["direct", "clause", "keywords"]


@dataclass(frozen=True)
class Frame:
    """Words around a wording.

    Attributes:
        id: the phrasing's name; "" leaves the wording as it is, which then has a name of its own.
        form: what fits in.
        text: with ``{}`` where the wording goes.
        held_out: for the test part alone.
    """

    id: str
    form: Form
    text: str
    held_out: bool = False


def _frames(form: Form, texts: str, *, held_out: bool = False) -> list[Frame]:
    told = [line.strip() for line in texts.strip().splitlines()]
    mark = "held-out-" if held_out else ""
    return [Frame(f"{form}-{mark}{n}", form, text, held_out) for n, text in enumerate(told, start=1)]


_CLAUSES = """
    I'd like to know {}.
    Can you tell me {}?
    Do you know {}?
    Please find out {}.
    Could you look up {}?
    I can't remember {}.
    We need to know {}.
    A colleague asked me {}.
    Somebody wants to know {}.
    Tell me {}.
    Do the documents say {}?
    I was wondering {}.
    Let me know {}, please.
    For my notes I need to know {}.
    Is it written anywhere {}?
    What I want to know is {}.
    Remind me {}.
    I keep forgetting {}.
    It would help to know {}.
    I'd be glad to hear {}.
    Any idea {}?
    Check {}, would you?
    I'm not sure {}.
    Does anybody know {}?
"""
_CLAUSES_HELD_OUT = """
    Would you happen to know {}?
    I have to find out {}.
    Our customer asks {}.
    May I ask {}?
    Nobody here remembers {}.
    Please say {}.
    I read it once, but have forgotten {}.
    Can somebody tell us {}?
"""
_LEADS = """
    Quick question: {}
    For a footnote: {}
    One more thing: {}
    Hi, {}
    For the quiz tonight: {}
    And {}
"""
_LEADS_HELD_OUT = """
    Just to be sure: {}
    Before I forget: {}
    So, {}
"""
_KEYWORDS = """
    {}?
    {}, please
    search: {}
    need {}
"""
_KEYWORDS_HELD_OUT = """
    looking for {}
    {} - what do we have?
    find: {}
"""

FRAMES = (
    *_frames("clause", _CLAUSES),
    *_frames("clause", _CLAUSES_HELD_OUT, held_out=True),
    *_frames("direct", _LEADS),
    *_frames("direct", _LEADS_HELD_OUT, held_out=True),
    *_frames("keywords", _KEYWORDS),
    *_frames("keywords", _KEYWORDS_HELD_OUT, held_out=True),
)
AS_IS = {form: Frame("", form, "{}") for form in ("direct", "clause", "keywords")}


def frames(form: Form, *, held_out: bool) -> list[Frame]:
    """The frames of a form, for the test part (held out) or for the others."""
    return [each for each in FRAMES if each.form == form and each.held_out is held_out]


def framed(frame: Frame, wording: str, name: str, short: str) -> str:
    """Put a wording into a frame.

    Args:
        frame: of the wording's form.
        wording: with ``{e}`` for the name in running text, or ``{k}`` for the short one.
        name: "the memristor".
        short: "memristor".
    """
    text = wording.replace("{e}", name).replace("{k}", short)
    if frame.form == "direct" and frame.id:  # a wording of this form begins with a word of asking, never with a name
        text = text[:1].lower() + text[1:]
    return frame.text.replace("{}", text)

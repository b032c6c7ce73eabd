"""Whether a question needs any retrieval, by plain rules on its text; knows no stores, no documents and no model.

Only what is plainly no question to a document store is let through: greetings and thanks, small talk with the
assistant, arithmetic, and work on text that the question itself brings along. Everything else retrieves: a needless
retrieval costs milliseconds, a skipped one costs the answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """Whether to retrieve, and why.

    Attributes:
        needed: False when the question can be answered without any document.
        reason: one readable phrase for metadata and events.
    """

    needed: bool
    reason: str


def retrieval_need(question: str) -> Need:
    """Say whether a question needs documents.

    Args:
        question: the user's words, as typed.

    Returns:
        needed=False only for greetings, thanks, small talk, arithmetic and work on given text.
    """
    request = _without_pleasantries(question)
    if not request:
        return Need(False, "greeting or thanks")
    if len(request) <= _SHORT:
        if _SMALL_TALK.fullmatch(request):
            return Need(False, "small talk with the assistant")
        if _is_arithmetic(request):
            return Need(False, "arithmetic")
        if _WORD_QUESTION.fullmatch(request) or _EARLIER_TEXT.fullmatch(request):
            return Need(False, "rewriting given text")
    if _brings_its_text(request):
        return Need(False, "rewriting given text")
    return Need(True, "asks for knowledge")


_SHORT = 200
"""Characters. Longer messages are never small talk or arithmetic, and are spared those patterns."""


def _pattern(expression: str) -> re.Pattern[str]:
    return re.compile(expression, re.IGNORECASE | re.DOTALL)


# --- greetings and thanks: phrases that may stand before the request; nothing is left when they are all there is ---

_PLEASANTRIES = (
    r"hi+|hello+|hey+|hiya|howdy|hullo|yo|greetings|g'day|hola|bonjour|salut|hallo|moin|ciao",
    r"good (?:morning|afternoon|evening|day|night)",
    r"(?:many )?thanks?(?: you)?(?: (?:so|very) much| a lot| a million| again)*"
    r"(?: for (?:(?:all|the|your|that|this)\b ?)+(?:help|answers?|reply|response|explanation|support|time|chat)?)?",
    r"thx|ty|cheers|merci|danke|gracias|grazie|much appreciated|i appreciate it",
    r"you(?:'re| are) (?:welcome|great|awesome|the best|so helpful|very helpful)",
    r"(?:(?:that|it|this)(?:'s| is| was) |sounds )?(?:ok(?:ay)?|perfect|cool|nice|great|good|wonderful|very helpful)",
    r"got it|i see|no worries|no problem|well done|good job|see (?:you|ya)(?: (?:later|soon|tomorrow))?|later|farewell",
    r"how(?: are|'re|'ve) (?:you|things|we)(?: (?:doing|been|today|feeling))*|how do you do",
    r"how(?:'s| is) (?:it going|everything(?: going)?|life|your day(?: going)?)|what(?:'s| is) (?:up|new)|wassup",
    r"(?:nice|pleased|good|glad) to (?:meet|see|talk to) you|(?:good ?)?bye(?:[ -]bye)?|talk to you (?:later|soon)",
    r"take care|have a (?:nice|good|great) (?:day|one|evening|weekend)",
)
_ADDRESSED = r"(?:[\s,]+(?:there|again|everyone|all|team|folks|friend|bot|ai|assistant|now|today|you|my|dear)\b)*"
_PLEASANTRY = _pattern(rf"(?:{'|'.join(_PLEASANTRIES)})(?!\w){_ADDRESSED}[\s\W]*")
_MAX_PLEASANTRIES = 6


def _without_pleasantries(text: str) -> str:
    """The request that is left once greetings and thanks at its start are gone."""
    rest = text.strip().replace("’", "'")
    for _ in range(_MAX_PLEASANTRIES):
        match = _PLEASANTRY.match(rest)
        if match is None:
            break
        rest = rest[match.end() :]
    return rest.strip()


# --- small talk: questions whose subject is the assistant itself ---

_POLITE = r"(?:(?:please|so|and|now|then|ok|just)[\s,]+)*(?:(?:can|could|will|would) you (?:please )?)?"
_SMALL_TALK_TOPICS = (
    r"who(?: are|'re) you|what(?: are|'re) you|what(?:'s| is) your (?:name|purpose)|introduce yourself",
    r"(?:tell me )?who (?:made|built|created|trained|programmed) you|how old are you|where are you from",
    r"are you (?:an? )?(?:(?:real|ai|actual) )?(?:bot|robot|ai|human|person|real|computer|machine|chatbot|there|ok)",
    r"tell me about yourself",
    r"what can (?:you do(?: for me)?|i ask you)|how (?:can|could) you help(?: me)?|what (?:should|can|do) i call you",
    r"tell (?:me )?(?:a|another)(?: \w+)? joke|(?:flip|toss) a coin|roll (?:a (?:die|dice)|the dice)",
)
_SMALL_TALK = _pattern(rf"{_POLITE}(?:{'|'.join(_SMALL_TALK_TOPICS)})[\s\W]*")


# --- arithmetic: numbers and operators and nothing else ---

_NUMBER = (
    r"(?:\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)%?|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|"
    r"(?:thir|four|fif|six|seven|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million|"
    r"half|pi)\b)"
)
_OPERATOR = (
    r"(?:[+*×÷^]|(?<=\s)[-−/x](?=\s)|%\sof\b|\b(?:plus|minus|times|divided by|multiplied (?:by|with)|to the power of|"
    r"squared|cubed|per ?cent of|(?:square|cube) root of|sqrt|(?:sum|product|average|mean) of|difference between)\b)"
)
_TIGHT_OPERATOR = r"(?<=[\d)])[-−/x](?=[\d(])"
"""Without blanks these also write names ("9/11", "24/7", "4x4"): arithmetic only when asked to calculate."""

_OPENING = _pattern(
    rf"{_POLITE}(?:tell me |give me |find |i need to know )?"
    r"(?:(?P<verb>calculate|compute|evaluate|solve|work out|how much(?: is|'s))"
    r"|(?P<operation>add(?: up)?|subtract|multiply|divide)|what(?: is| are|'s)?)?\s*"
    r"(?:the (?:result|value|answer) (?:of|to) )?(?:the )?"
)
_CLOSING = _pattern(r"\s*(?P<sign>=)?\s*(?:equals?(?: to)?|is|for me|please)?[?!.\s]*$")
_TERM = _pattern(
    rf"{_OPERATOR}|{_TIGHT_OPERATOR}|{_NUMBER}|\b(?:and|of|the|a|by|from|to|with)\b|[()\s,]|(?:^|(?<=\s))-(?=\d)"
)
_CALCULATION, _TIGHT_CALCULATION = _pattern(_OPERATOR), _pattern(_TIGHT_OPERATOR)


def _is_arithmetic(request: str) -> bool:
    opening, closing = _OPENING.match(request), _CLOSING.search(request)
    if opening is None or closing is None:
        return False
    term = request[opening.end() : closing.start()]
    numbers = len(_pattern(_NUMBER).findall(term))
    if not numbers or _TERM.sub("", term):
        return False
    asked = opening["verb"] is not None or closing["sign"] is not None
    return (
        _CALCULATION.search(term) is not None
        or (asked and _TIGHT_CALCULATION.search(term) is not None)
        or (opening["operation"] is not None and numbers > 1)
    )


# --- work on text that the request brings along, or on the answer just given ---

_LANGUAGES = (
    "english|german|french|spanish|italian|portuguese|dutch|russian|polish|czech|greek|turkish|arabic|hebrew|hindi|"
    "chinese|mandarin|japanese|korean|vietnamese|swedish|danish|norwegian|finnish|hungarian|romanian|ukrainian|latin"
)
_REWORK = (
    rf"{_POLITE}(?:i (?:want|need) you to |help me (?:to )?)?"
    r"(?:(?P<short>rewrite|rephrase|paraphrase|reword|translate|proof-?read|correct|fix|edit|punctuate|capitali[sz]e|"
    r"repeat|say|spell|make|turn|polish|improve)|(?P<long>summari[sz]e|shorten|condense|simplify|explain|continue))\b"
)
_REWORK_VERB = _pattern(_REWORK)
_GIVEN_TEXT = _pattern(
    r"(?::|\n|(?<=\w)\.\s)\s*(?P<after>\S.*)$|(?:[\"“`](?P<double>[^\"”`]+)[\"”`]|(?<!\w)'(?P<single>[^']+)'(?!\w))"
)
_ORDINARY_WORDS = _pattern(
    rf"(?:\W|\b(?:{_LANGUAGES}|this|these|the|following|an?|my|words?|phrase|sentences?|text|paragraph|passage|email|"
    r"message|note|code|letter|grammar|spelling|typos|wording|punctuation|tone|style|in|into|to|from|of|as|with|using|"
    r"and|for|me|please|more|less|better|shorter|simpler|polite|friendly|simple|short|clear|in?formal|one|two|three|"
    r"bullet|points|\w+ly)\b)*"
)
"""What may stand around the given text; any other word names something that only documents hold."""

_EARLIER_TEXT = _pattern(
    rf"{_REWORK}\W*(?:that|this|it|the above|(?:your|the|that) (?:(?:last|previous|above|first) )?"
    r"(?:answer|reply|response|message|sentence))(?: (?:again|for me|please|shorter|longer|simpler))*"
    r"(?: (?:in|into|to|as|more|less|a bit|a little)\b[\w\s,-]*)?[?!.]*"
)
_WORD_QUESTION = _pattern(
    rf"{_POLITE}(?:tell me )?how (?:do|would|can|should) (?:you|i) (?:say .+ in (?:{_LANGUAGES})|spell (?:the word )?"
    r"\W*[\w-]+)[\s\W]*"
)
_LONG_TEXT_WORDS = 12
"""A text to be summarised is a text: shorter than this it reads as a topic ("Summarize: HBM against GDDR")."""


def _brings_its_text(request: str) -> bool:
    verb = _REWORK_VERB.match(request)
    given = _GIVEN_TEXT.search(request, verb.end()) if verb else None
    if verb is None or given is None:
        return False
    around = request[verb.end() : given.start()] + " " + request[given.end() :]
    text = given["after"] or given["double"] or given["single"]
    long_enough = len(text.split()) >= (_LONG_TEXT_WORDS if verb["long"] else 1)
    return long_enough and _ORDINARY_WORDS.fullmatch(around) is not None

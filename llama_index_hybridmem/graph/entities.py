"""Names in text: how to find them and where they occur; knows nothing of stores, vectors or language models.

Three steps, all plain string work. *Declaring*: titles and capitalised spans propose names. *Matching*: a longest-match
walk over a passage's words finds every known name in it, capitalised or not. *Truecase counts*: of a name's mentions
in running text, how many have capitals, so that pages called "City" or "Father" do not tie everything together.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

MAX_NAME_WORDS = 10
"""Longest name, in words. Titles beyond it are almost always sentences or lists, which nothing else mentions whole."""

# Within words, though not alphanumeric: soft hyphens and joiners, which are no part of a form; accents; vowel signs.
_UNSEEN = "\u00ad\u200b-\u200d\u2060"
_ACCENTS = "\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670"
_VOWELS = "\u0900-\u0963\u0971-\u0dff\u0e31-\u0e4e"
_WORD = re.compile(rf"[^\W_]+(?:['’][^\W_]+|[{_UNSEEN}{_ACCENTS}{_VOWELS}][^\W_]*)*")
_DROPPED = re.compile(rf"['’{_UNSEEN}]")
_POSSESSIVE = re.compile(r"['’]s$", re.IGNORECASE)
_PARENTHESES = re.compile(r"\([^()]*\)")
# Between two words of one name: blanks, a hyphen, a slash, an ampersand, or the dot of an initial ("J. R. Doe").
_INSIDE_GAP = re.compile(r"^(?:[ \t]+|\n(?!\s*\n)|[-–/]|[ \t]*&[ \t]*)$")
_INITIAL_GAP = re.compile(r"^\.[ \t]*$")
_SENTENCE_END = re.compile(r"[.!?:;]['\"”’)\]]*\s|\n\s*\n|\n\s*(?:[-*+|>]|#+|\d+[.)])\s")

CONNECTORS = frozenset("of the de la le du des von van der den di da del della el al bin ibn y e for to".split())
"""Words that may stand inside a name ("University of Copenhagen"), never at its ends."""

STOPWORDS = frozenset(
    """a about above after again against all also although am among an and another any are as at be because been
    before being below between both but by can could did do does doing down during each either else ever every few
    first for from further had has have having he her here hers herself him himself his how however i if in into is it
    its itself just last later least less let like made many may me might more most much must my myself neither new no
    nor not now of off often on once one only or other our ours ourselves out over own per perhaps said same she should
    since so some still such than that the their theirs them themselves then there these they this those though through
    thus to together too two under until up upon us use used using very was we were what whatever when where whether
    which while who whom whose why will with within without would yes yet you your yours yourself name named called
    give tell many much list""".split()
)
"""English function words and question words: never names by themselves, never search terms."""

_NEVER_FIRST = STOPWORDS - {"new"}  # New York, New Zealand
_CALENDAR = frozenset(
    """january february march april may june july august september october november december monday tuesday wednesday
    thursday friday saturday sunday""".split()
)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one text, as parallel lists.

    Attributes:
        source: the text.
        texts: each word's normalised form.
        spans: where each stands in the source, without a possessive ending.
    """

    source: str
    texts: list[str]
    spans: list[tuple[int, int]]

    def surface(self, first: int, after: int) -> str:
        """Quote the source from one word up to, not including, another."""
        return self.source[self.spans[first][0] : self.spans[after - 1][1]]

    def is_capital(self, index: int) -> bool:
        """Whether a word begins with a capital or a digit."""
        initial = self.source[self.spans[index][0]]
        return initial.isupper() or initial.isdigit()

    def begins_sentence(self, index: int) -> bool:
        """Whether a word's capital says nothing."""
        return index == 0 or _SENTENCE_END.search(self.gap(index) + " ") is not None

    def gap(self, index: int) -> str:
        """Quote what stands between a word and the one before it."""
        return self.source[self.spans[index - 1][1] : self.spans[index][0]]


@dataclass(frozen=True, slots=True)
class Mention:
    """A known name in one passage.

    Attributes:
        surface: how the passage first writes it.
        total: mentions in running text that say something about its case.
        upper: those of them written with capitals.
        titled: whether the name is the passage's title.
    """

    surface: str
    total: int
    upper: int
    titled: bool = False


def words(text: str) -> Words:
    """Split a text into words: letters and digits of any script, lower-cased, without apostrophes and possessives."""
    texts, spans = [], []
    for match in _WORD.finditer(text):
        raw, (start, end) = match.group(), match.span()
        if raw.isascii() and raw.isalnum():
            texts.append(raw.lower())
        else:
            kept = _POSSESSIVE.sub("", raw)
            end -= len(raw) - len(kept)
            texts.append(_folded(kept))
        spans.append((start, end))
    return Words(text, texts, spans)


def word_set(text: str) -> set[str]:
    """Give the different words of a text, the same forms as `words` and faster."""
    raws = set(_WORD.findall(text.lower() if text.isascii() else text))
    return {raw.lower() if raw.isascii() and raw.isalnum() else _folded(_POSSESSIVE.sub("", raw)) for raw in raws}


def _folded(word: str) -> str:
    """Lower-case, with accents composed; a Turkish dotted capital I becomes a plain i, as it is typed in questions."""
    return unicodedata.normalize("NFC", _DROPPED.sub("", word).lower()).replace("i\u0307", "i")


def normalise(name: str) -> str:
    """Write a name the way the graph keys it: its words, lower-cased, one blank apart; "" when it has none."""
    return " ".join(words(name).texts)


def is_short(name: str) -> bool:
    """Whether a normalised name has at most MAX_NAME_WORDS words."""
    return name.count(" ") < MAX_NAME_WORDS


def terms(text: str) -> list[str]:
    """List the content words of a text, in order, each once."""
    return [word for word in dict.fromkeys(words(text).texts) if word not in STOPWORDS]


def title_names(title: str) -> list[str]:
    """List the names a title stands for: itself, and itself without what stands in parentheses ("Mercury (planet)")."""
    names = (normalise(title), normalise(_PARENTHESES.sub(" ", title)))
    return [name for name in dict.fromkeys(names) if name and is_short(name)]


def capitalised_names(text: str) -> list[str]:
    """List the names that capitals announce in running text, each once, in order of appearance.

    A run of capitalised words, connectors allowed inside, is one name. Dropped: single words that begin a sentence
    (their capital says nothing), months and days, numbers, function words at either end.
    """
    tokens = words(text)
    names: dict[str, None] = {}
    for first, after in _capital_runs(tokens):
        while first < after and tokens.texts[first] in _NEVER_FIRST:
            first += 1
        while after > first and tokens.texts[after - 1] in STOPWORDS:
            after -= 1
        if _is_name(tokens, first, after):
            names[" ".join(tokens.texts[first:after])] = None
    return list(names)


def _capital_runs(tokens: Words) -> Iterator[tuple[int, int]]:
    first, after = 0, 0  # the run so far; connectors beyond it count only if a capitalised word follows
    for index, text in enumerate(tokens.texts):
        capital = tokens.is_capital(index)
        if first < after and (capital or text in CONNECTORS) and _joined(tokens, index):
            after = index + 1 if capital else after
            continue
        if first < after:
            yield first, after
        first, after = index, index + capital
    if first < after:
        yield first, after


def _joined(tokens: Words, index: int) -> bool:
    gap = tokens.gap(index)
    if gap == " " or _INSIDE_GAP.match(gap):
        return True
    start, end = tokens.spans[index - 1]
    return end - start == 1 and tokens.is_capital(index - 1) and _INITIAL_GAP.match(gap) is not None


def _is_name(tokens: Words, first: int, after: int) -> bool:
    texts = tokens.texts[first:after]
    if not 0 < len(texts) <= MAX_NAME_WORDS:
        return False
    if len(texts) == 1 and (texts[0] in _CALENDAR or len(texts[0]) < 2 or tokens.begins_sentence(first)):
        return False
    return not all(text.isdigit() or text in _CALENDAR for text in texts)


class Gazetteer:
    """Known names for longest-match look-up: every name and every beginning of one, told apart by a flag."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._is_name: dict[str, bool] = {}
        self.add(names)

    def __contains__(self, name: str) -> bool:
        return self._is_name.get(name, False)

    def add(self, names: Iterable[str]) -> None:
        """Add normalised names."""
        for name in names:
            self._is_name[name] = True
            blank = name.rfind(" ")
            while blank > 0 and name[:blank] not in self._is_name:
                self._is_name[name[:blank]] = False
                blank = name.rfind(" ", 0, blank)

    def discard(self, names: Iterable[str]) -> None:
        """Forget normalised names; as a beginning of others a name stays."""
        for name in names:
            self._is_name[name] = False

    def find(self, texts: Sequence[str]) -> Iterator[tuple[str, int, int]]:
        """Find names in a sequence of normalised words, left to right, the longest at each place, without overlaps.

        Yields:
            (name, its first word, the word after its last).
        """
        index, end = 0, len(texts)
        while index < end:
            text, after, found = texts[index], index + 1, ""
            while (is_name := self._is_name.get(text)) is not None:
                if is_name:
                    found, found_after = text, after
                if after == end:
                    break
                text, after = f"{text} {texts[after]}", after + 1
            if found:
                yield found, index, found_after
                index = found_after
            else:
                index += 1


def mentions(text: str, title: str, titled: Collection[str], gazetteer: Gazetteer) -> dict[str, Mention]:
    """Find every known name in a passage.

    Args:
        text: the running text.
        title: the passage's title, "" when it has none or titles are left out.
        titled: the names the title declares; they are linked even where a longer name hides them.
        gazetteer: the known names.

    Returns:
        normalised name to its mention, counted in running text only; one word that begins a sentence is not counted.
    """
    found = {name: Mention(title or name, 0, 0, titled=True) for name in titled}
    tokens = words(title)
    for name, first, after in gazetteer.find(tokens.texts):
        found.setdefault(name, Mention(tokens.surface(first, after), 0, 0))
    tokens = words(text)
    for name, first, after in gazetteer.find(tokens.texts):
        known = found.get(name) or Mention(tokens.surface(first, after), 0, 0)
        counted = after - first > 1 or not tokens.begins_sentence(first)
        upper = counted and _is_capitalised(tokens, first, after)
        found[name] = Mention(known.surface, known.total + counted, known.upper + upper, known.titled)
    return found


def _is_capitalised(tokens: Words, first: int, after: int) -> bool:
    telling = [i for i in range(first, after) if tokens.texts[i] not in STOPWORDS] or range(first, after)
    return all(tokens.is_capital(i) for i in telling)


Extractor = Callable[[str], Iterable[str]]
"""Anything that proposes names for a text; its results are normalised and join those of titles and capitals."""


def declared_names(text: str, title: str, extract: Extractor | None = None) -> list[str]:
    """List the names a passage proposes: its title's, then those of `extract` (default: capitalised spans)."""
    proposed = capitalised_names(text) if extract is None else map(normalise, extract(text))
    return list(dict.fromkeys([*title_names(title), *(name for name in proposed if name and is_short(name))]))


def spans_of(question: str) -> list[str]:
    """List every run of words in a text that could be a name, each once."""
    texts = words(question).texts
    spans = (
        " ".join(texts[first : first + length])
        for first in range(len(texts))
        for length in range(1, min(MAX_NAME_WORDS, len(texts) - first) + 1)
    )
    return list(dict.fromkeys(spans))


def query_names(question: str, known: Callable[[Iterable[str]], Mapping[str, object]]) -> list[str]:
    """Find the names in a question without holding the dictionary: every run of words is looked up, the longest win.

    Args:
        question: any text, in any case.
        known: takes candidate names, returns those that exist (as keys).
    """
    names = Gazetteer(known(spans_of(question))).find(words(question).texts)
    return [name for name in dict.fromkeys(name for name, _, _ in names) if name not in STOPWORDS]

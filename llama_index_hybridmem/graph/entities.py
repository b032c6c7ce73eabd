"""Names in text: how to find them and where they occur; knows nothing of stores, vectors or language models.

Three steps, all plain string work. *Declaring*: titles and capitalised spans propose names. *Matching*: a longest-match
walk over a passage's words finds every known name in it, capitalised or not. *Truecase counts*: of a name's mentions in
running text, how many are written with capitals, so that pages called "City" or "Father" do not tie everything together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

MAX_NAME_WORDS = 10
"""Longest name, in words. Titles beyond it are almost always sentences or lists, which nothing else mentions whole."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_POSSESSIVE = re.compile(r"['’]s$", re.IGNORECASE)
_PARENTHESES = re.compile(r"\s*\([^()]*\)")
# What may stand between two words of one name: blanks, a hyphen, a slash, an ampersand, or the dot of an initial ("J. R. Doe").
_INSIDE_GAP = re.compile(r"^(?:[ \t]+|\n(?!\s*\n)|[-–/]|[ \t]*&[ \t]*)$")
_INITIAL_GAP = re.compile(r"^\.[ \t]*$")
_SENTENCE_END = re.compile(r"[.!?:;]['\"”’)\]]*\s|\n\s*\n|\n\s*(?:[-*+|>]|#+|\d+[.)])\s")

CONNECTORS = frozenset("of the de la le du des von van der den di da del della el al bin ibn y e for to".split())
"""Words that may stand inside a name ("University of Copenhagen"), never at its ends."""

STOPWORDS = frozenset(
    """a about above after again against all also although am among an and another any are as at be because been before being
    below between both but by can could did do does doing down during each either else ever every few first for from further had
    has have having he her here hers herself him himself his how however i if in into is it its itself just last later least
    less let like made many may me might more most much must my myself neither new no nor not now of off often on once one only
    or other our ours ourselves out over own per perhaps said same she should since so some still such than that the their
    theirs them themselves then there these they this those though through thus to together too two under until up upon us use
    used using very was we were what whatever when where whether which while who whom whose why will with within without would
    yes yet you your yours yourself name named called give tell many much list""".split()
)
"""English function words and question words: never names by themselves, never search terms."""

_CALENDAR = frozenset(
    """january february march april may june july august september october november december monday tuesday wednesday
    thursday friday saturday sunday""".split()
)


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a text: its normalised form and where it stands."""

    text: str
    start: int
    end: int
    capital: bool


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


def words(text: str) -> list[Word]:
    """Split a text into words: letters and digits of any script, lower-cased, without apostrophes or possessive endings."""
    found = []
    for match in _WORD.finditer(text):
        raw = match.group()
        end = match.end()
        if "'" in raw or "’" in raw:
            kept = _POSSESSIVE.sub("", raw)
            end -= len(raw) - len(kept)
            raw = kept
        found.append(Word(_plain(raw), match.start(), end, raw[0].isupper() or raw[0].isdigit()))
    return found


def word_set(text: str) -> set[str]:
    """Give the different words of a text, the same forms as `words` and several times faster."""
    return {_plain(_POSSESSIVE.sub("", raw)) if "'" in raw or "’" in raw else raw.lower() for raw in _WORD.findall(text)}


def _plain(raw: str) -> str:
    return raw.lower().replace("'", "").replace("’", "")


def normalise(name: str) -> str:
    """Write a name the way the graph keys it: its words, lower-cased, one blank apart; "" when it has none."""
    return " ".join(word.text for word in words(name))


def is_short(name: str) -> bool:
    """Whether a normalised name has at most MAX_NAME_WORDS words."""
    return name.count(" ") < MAX_NAME_WORDS


def terms(text: str) -> list[str]:
    """List the content words of a text, in order, each once."""
    return list(dict.fromkeys(word.text for word in words(text) if word.text not in STOPWORDS))


def title_names(title: str) -> list[str]:
    """Name a title stands for: itself, and itself without what stands in parentheses ("Mercury (planet)")."""
    whole = normalise(title)
    bare = normalise(_PARENTHESES.sub("", title))
    return [name for name in dict.fromkeys((whole, bare)) if name and is_short(name)]


def capitalised_names(text: str) -> list[str]:
    """List the names that capitals announce in running text, each once, in order of appearance.

    A run of capitalised words, connectors allowed inside, is one name. Dropped: single words that begin a sentence (their
    capital says nothing), months and days, numbers, function words at either end.
    """
    tokens = words(text)
    starts = _sentence_starts(text, tokens)
    names: dict[str, None] = {}
    for run in _capital_runs(text, tokens):
        name = _trimmed(tokens, run)
        if name and _is_name([tokens[i] for i in name], alone_at_start=len(name) == 1 and name[0] in starts):
            names[" ".join(tokens[i].text for i in name)] = None
    return list(names)


def _capital_runs(text: str, tokens: Sequence[Word]) -> Iterator[list[int]]:
    run: list[int] = []
    pending: list[int] = []  # connectors that count only if a capitalised word follows
    for index, token in enumerate(tokens):
        if run and not _joined(text, tokens, index):
            yield run
            run, pending = [], []
        if token.capital:
            run += [*pending, index]
            pending = []
        elif run and token.text in CONNECTORS:
            pending.append(index)
        elif run:
            yield run
            run, pending = [], []
    if run:
        yield run


def _joined(text: str, tokens: Sequence[Word], index: int) -> bool:
    previous = tokens[index - 1]
    gap = text[previous.end : tokens[index].start]
    if _INSIDE_GAP.match(gap):
        return True
    return bool(_INITIAL_GAP.match(gap)) and previous.capital and previous.end - previous.start == 1


def _trimmed(tokens: Sequence[Word], run: list[int]) -> list[int]:
    low, high = 0, len(run)
    while low < high and tokens[run[low]].text in STOPWORDS:
        low += 1
    while high > low and tokens[run[high - 1]].text in STOPWORDS:
        high -= 1
    return run[low:high]


def _is_name(parts: Sequence[Word], *, alone_at_start: bool) -> bool:
    if alone_at_start or len(parts) > MAX_NAME_WORDS:
        return False
    if len(parts) == 1 and (parts[0].text in _CALENDAR or len(parts[0].text) < 2):
        return False
    return not all(part.text.isdigit() or part.text in _CALENDAR for part in parts)


def _sentence_starts(text: str, tokens: Sequence[Word]) -> set[int]:
    starts = {0} if tokens else set()
    for index, (left, right) in enumerate(pairwise(tokens), start=1):
        if _SENTENCE_END.search(text[left.end : right.start] + " "):
            starts.add(index)
    return starts


class Gazetteer:
    """Known names, indexed by first word, for longest-match look-up."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names: set[str] = set()
        self._longest: dict[str, int] = {}
        self.add(names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, names: Iterable[str]) -> None:
        """Add normalised names."""
        for name in names:
            self._names.add(name)
            first, _, rest = name.partition(" ")
            length = rest.count(" ") + 2 if rest else 1
            self._longest[first] = max(length, self._longest.get(first, 0))

    def discard(self, names: Iterable[str]) -> None:
        """Forget normalised names."""
        self._names.difference_update(names)

    def find(self, tokens: Sequence[Word]) -> Iterator[tuple[str, int, int]]:
        """Yield (name, first word, word after the last) of the longest match at each place, left to right, not overlapping."""
        index, end = 0, len(tokens)
        while index < end:
            longest = min(self._longest.get(tokens[index].text, 0), end - index)
            for length in range(longest, 0, -1):
                name = " ".join(token.text for token in tokens[index : index + length])
                if name in self._names:
                    yield name, index, index + length
                    index += length - 1
                    break
            index += 1


def mentions(text: str, title: str, titled: Collection[str], gazetteer: Gazetteer) -> dict[str, Mention]:
    """Find every known name in a passage.

    Args:
        text: the running text.
        title: the passage's title, "" when it has none or titles are left out.
        titled: the names the title declares; they are linked even where a longer name hides them.
        gazetteer: the known names.

    Returns:
        normalised name to its mention, with truecase counts taken from running text only. A one-word mention that begins
        a sentence is not counted: its capital says nothing.
    """
    found = {name: Mention(title or name, 0, 0, titled=True) for name in titled}
    for name, first, after in gazetteer.find(title_words := words(title)):
        found.setdefault(name, Mention(title[title_words[first].start : title_words[after - 1].end], 0, 0))
    tokens = words(text)
    starts = _sentence_starts(text, tokens)
    for name, first, after in gazetteer.find(tokens):
        counted = not (after - first == 1 and first in starts)
        upper = counted and all(t.capital for t in tokens[first:after] if t.text not in STOPWORDS)
        known = found.get(name) or Mention(text[tokens[first].start : tokens[after - 1].end], 0, 0)
        found[name] = Mention(known.surface, known.total + counted, known.upper + upper, known.titled)
    return found


Extractor = Callable[[str], Iterable[str]]
"""Anything that proposes names for a text; its results are normalised and join those of titles and capitals."""


def declared_names(text: str, title: str, extract: Extractor | None = None) -> list[str]:
    """List the names a passage proposes: its title's, then those of `extract` (default: capitalised spans)."""
    proposed = capitalised_names(text) if extract is None else [normalise(name) for name in extract(text)]
    kept = (name for name in proposed if name and is_short(name))
    return list(dict.fromkeys([*title_names(title), *kept]))


def query_names(question: str, known: Callable[[Iterable[str]], Mapping[str, int]]) -> list[str]:
    """Find the names in a question without holding the dictionary: every run of words is looked up, the longest win.

    Args:
        question: any text, in any case.
        known: takes candidate names, returns those that exist (as keys).
    """
    tokens = words(question)
    spans = [
        " ".join(token.text for token in tokens[first : first + length])
        for first in range(len(tokens))
        for length in range(1, min(MAX_NAME_WORDS, len(tokens) - first) + 1)
    ]
    gazetteer = Gazetteer(known(dict.fromkeys(spans)))
    names = dict.fromkeys(name for name, _, _ in gazetteer.find(tokens))
    return [name for name in names if name not in STOPWORDS]

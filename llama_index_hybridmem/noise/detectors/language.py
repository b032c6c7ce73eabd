"""Finds passages in another language than the question's, wholly or in part; pure, knows no operator and no model.

Languages in Latin letters are told by their function words, eight of them; others by their script. A sentence with few
function words (a table's row, a list of names) is of no language, and a passage of none is never found.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from llama_index_hybridmem.noise.findings import Finding, of_passage
from llama_index_hybridmem.noise.scene import Passage, Scene

HITS = 3
"""Function words that make a sentence one of their language, if there are twice as many as of the question's."""

WORDS = {
    "en": """the of and to in is was are were for with that this these those by from as at on it its be been has have
        had which who whom whose what when where why how did does do not or but an can will would their his her
        they he she into than there about after also between during such most other some many all if no so we
        you me my up out over under one ten per son era more most being only then its""",
    "de": """der die das und in ist war sind waren für mit dass dieser diese dieses von aus als am im auf es sein hat
        haben hatte welche welcher wer wen wessen was wann wo warum wie nicht oder aber ein eine einen einem
        einer zu zum zur bei durch nach auch zwischen während wird wurde werden sich den dem des ihr sie er wir
        ich über unter kann solche kein mehr noch nur wenn bis seit gegen ohne um""",
    "fr": """le la les et de des du dans est était sont étaient pour avec que qui ce cette ces par un une au aux
        comme sur il elle ils elles son sa ses leur ont avait quel quelle dont quoi quand où pourquoi comment ne
        pas ou mais en être été plus aussi entre pendant après avant très tous tout autre sans sous depuis nous
        vous je se lui même deux""",
    "es": """el la los las de del en es era son eran para con que este esta estos estas ese esa por un una al como
        sobre él ella ellos su sus se ha han había tiene cual cuál quien quién cuyo qué cuando cuándo donde
        dónde cómo no pero ser sido más también entre durante después antes muy todos todo otro sin desde hasta
        lo le fue dos porque ya hay""",
    "it": """il lo la gli le di del della dei delle degli nel nella in era sono erano per con che questo questa
        questi un una uno al alla come su si ha hanno aveva quale chi cosa quando dove perché non ma essere
        stato stata più anche tra fra durante dopo prima molto tutti tutto altro senza dal dalla da suo sua loro
        egli due fu ed""",
    "pt": """os as de do da dos das em no na nos nas era são eram para com que este esta esse essa isso por um uma ao
        como sobre ele ela eles seu sua seus se tem têm foi foram qual quem cujo quando onde porque não ou mas
        ser sido mais também entre durante depois antes muito todos todo outro sem desde até pelo pela dois já
        há""",
    "nl": """de het een en van in is was zijn waren voor met dat die deze dit door uit als op aan te er om niet of
        maar ook bij naar tot over onder tussen tijdens na heeft hebben had worden werd wordt welke wie wat
        wanneer waar waarom hoe hij zij ze we ik zich kan geen meer nog dan wel zo hun haar""",
    "pl": """na do nie się jest był była było były są to że od po za przez dla jak co kto który która które których
        kiedy gdzie dlaczego ten ta te tego tej tym ale lub oraz jego jej ich przed między podczas bardzo może
        być został została także tylko już jako pod bez ze we roku czy""",
}
"""Function words of two letters or more: single ones are names, too ("Model Y")."""

_SCRIPTS = re.compile(
    "(?P<el>[\u0370-\u03ff]+)|(?P<cyrillic>[\u0400-\u052f]+)|(?P<he>[\u0590-\u05ff]+)|(?P<arabic>[\u0600-\u06ff]+)"
    "|(?P<devanagari>[\u0900-\u097f]+)|(?P<th>[\u0e00-\u0e7f]+)|(?P<ja>[\u3040-\u30ff]+)|(?P<han>[\u3400-\u9fff]+)"
    "|(?P<ko>[\u1100-\u11ff\uac00-\ud7af]+)"
)
_NOT_LATIN = re.compile("[\u0370-\u1fff\u3040-\ud7af]")
_WORD = re.compile(r"[^\W\d_]+")
_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+|(?<=[。！？])|\n+")


@of_passage("other_language", "language")
def other_language(passage: Passage, scene: Scene) -> Finding | None:
    """Sentences in another language than the question, or than most other passages when it is too short to tell."""
    expected = _language(scene.question, 1) or _usual(passage, scene)
    if expected is None or not _may_differ(passage.text, expected):
        return None
    judged = [language for each in _END.split(passage.text) if (language := _language(each, HITS, expected))]
    other = sum(language != expected for language in judged)
    return Finding("language", "wrong_language", other / len(judged)) if other else None


def _usual(passage: Passage, scene: Scene) -> str | None:
    """What most of the other passages are in, two at least."""
    others = Counter(_language(each.text, HITS) for each in scene.passages if each.id != passage.id)
    del others[None]
    for language, count in others.most_common(1):
        if count > 1 and 2 * count > others.total():
            return language
    return None


def _may_differ(text: str, expected: str) -> bool:
    """Whether a text has enough of another language to be read sentence by sentence; most have not."""
    foreign = _FOREIGN.get(expected, _LANGUAGES.keys())
    return len(foreign & set(text.casefold().split())) > 1 or _script(text) not in (None, expected)


@lru_cache(256)
def _language(text: str, least: int, expected: str | None = None) -> str | None:
    """The language of a text; None when it cannot be told.

    Args:
        text: the text.
        least: function words that it must have; with ``expected``, for any other language.
        expected: needs one function word, and that no other language has twice as many.
    """
    counts = _counts(text)
    if not counts:
        return None
    (best, count), *more = counts.most_common(2)
    if expected and counts[expected] and (count <= 2 * counts[expected] or count < least):
        return expected
    if count < least or (more and more[0][1] == count):
        return None
    return best


@lru_cache(256)
def _counts(text: str) -> Counter[str]:
    """Function words of each language; a script's letters instead, when most of the letters are of one."""
    if script := _script(text):
        return Counter({script: HITS})
    return Counter([language for word in _words(text) if word in _LANGUAGES for language in _LANGUAGES[word]])


@lru_cache(64)
def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _script(text: str) -> str | None:
    """The script of most letters; None for Latin ones."""
    if text.isascii() or not _NOT_LATIN.search(text):
        return None
    counts: Counter[str] = Counter()
    for match in _SCRIPTS.finditer(text):
        counts[match.lastgroup or ""] += len(match[0])
    if 2 * counts.total() <= sum(map(len, _words(text))):
        return None
    return "ja" if counts["ja"] else counts.most_common(1)[0][0]


def _by_word() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for language, words in WORDS.items():
        for word in words.split():
            found[word] = (*found.get(word, ()), language)
    return found


_LANGUAGES = _by_word()
_FOREIGN = {each: {word for word, languages in _LANGUAGES.items() if each not in languages} for each in WORDS}

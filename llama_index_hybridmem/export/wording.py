"""How a record is put into words: system prompt, layout, citations, target; pure, knows no record and no format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from random import Random
from typing import Any, Literal, get_args

from llama_index_hybridmem.errors import ConfigurationError

Layout = Literal["numbered", "plain", "xml", "raft"]
Citation = Literal["numbers", "quotes", "none"]
Target = Literal["answer", "reasoned"]

SYSTEM = (
    "Answer the question from the given sources alone, without other knowledge. A source can be cut off, out of date, "
    "wrong or about something else: use only what answers the question. {form}"
)
"""The default system prompt; ``{form}`` stands for what layout, citations, target and abstention ask for."""

_CITATION: dict[Citation, str] = {
    "numbers": "Cite each source that you use by its number in the order given, like [1].",
    "quotes": "Quote what you use word for word between ##begin_quote## and ##end_quote##.",
    "none": "",
}
_TARGET: dict[Target, str] = {
    "answer": "Give no explanation.",
    "reasoned": 'After "Quotes:", quote what you use, behind the number of its source in the order given. After '
    '"Reason:", say in one line which sources you use and which you reject and why. After "Answer:", give the answer.',
}
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")


@dataclass(frozen=True)
class Wording:
    """The words around a record's question, passages and answer.

    Attributes:
        system: the system prompt; ``{form}`` in it stands for what the other options ask for. None: no system turn.
        layout: of the passages, see `layouts`: ``numbered``, ``plain`` and ``xml`` (those of Finetune-RAG, the latter
            escaped), ``raft`` (DOCUMENT tags).
        citation: ``numbers`` ([n] behind the answer, the n-th source), ``quotes`` (RAFT's marks), ``none``.
        target: ``answer`` alone, or ``reasoned``: quote, reason, answer.
        abstain: what is said when the sources do not answer; one is drawn for each record.
        shown: metadata a reader sees of a passage, in this order. ``title``, ``source``, ``date`` and ``version`` stand
            for the usual field names of each (`scene`), another name for the field of that name. Stale dates and
            doubtful sources can only be learned from what is shown; () shows texts alone.

    Raises:
        ConfigurationError: an unknown option, no words of abstention, or blank ones, or of several lines.
    """

    system: str | None = SYSTEM
    layout: Layout = "numbered"
    citation: Citation = "numbers"
    target: Target = "answer"
    abstain: tuple[str, ...] = ("Not in the sources.",)
    shown: tuple[str, ...] = ("title", "source", "date", "version")

    def __post_init__(self) -> None:
        """Refuse what no row can be written with."""
        for name, known in (("layout", Layout), ("citation", Citation), ("target", Target)):
            if getattr(self, name) not in get_args(known):
                raise ConfigurationError(
                    f"wording, {name}: no {getattr(self, name)!r:.40}; there are {', '.join(get_args(known))}"
                )
        if self.system is not None and not (isinstance(self.system, str) and self.system.strip()):
            raise ConfigurationError("wording, system: give a text, or None for no system prompt")
        self._check_texts("abstain", least=1)
        self._check_texts("shown", least=0)
        for name in self.shown:
            if not _FIELD.match(name):
                raise ConfigurationError(f"wording, shown: {name!r:.40} is no name of a field (letters, digits, _ . -)")

    def _check_texts(self, name: str, least: int) -> None:
        texts = getattr(self, name)
        good = isinstance(texts, tuple) and all(isinstance(each, str) and each.strip() for each in texts)
        if not good or len(texts) < least or any(len(each.splitlines()) > 1 or each != each.strip() for each in texts):
            raise ConfigurationError(f"wording, {name}: a tuple of single lines is expected, not {texts!r:.60}")

    def system_prompt(self) -> str | None:
        """Give the system prompt as a row carries it; None without one."""
        if self.system is None:
            return None
        form = (_abstention(self.abstain), _CITATION[self.citation], _TARGET[self.target])
        return self.system.replace("{form}", " ".join(each for each in form if each)).strip()

    def abstention(self, seed: str) -> str:
        """Give the words of abstention of one record; the same seed gives the same."""
        if len(self.abstain) == 1:
            return self.abstain[0]
        return Random(f"{seed}:abstain").choice(self.abstain)

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {**asdict(self), "abstain": list(self.abstain), "shown": list(self.shown)}

    @classmethod
    def from_json(cls, row: Any, place: str = "a wording") -> Wording:
        """Read what `to_json` gave; what is left out has its default.

        Raises:
            ConfigurationError: this is no wording; names the place and the field.
        """
        known = {each.name for each in fields(cls)}
        if not isinstance(row, Mapping) or not row.keys() <= known:
            unknown = sorted(map(str, row.keys() - known)) if isinstance(row, Mapping) else [f"{row!r:.40}"]
            raise ConfigurationError(f"{place}: no wording; not understood: {', '.join(unknown)}")
        try:
            given: dict[str, Any] = {
                name: tuple(each) if isinstance(each, list) else each for name, each in row.items()
            }
            return cls(**given)
        except ConfigurationError as error:
            raise ConfigurationError(f"{place}: {error}") from error


def _abstention(words: tuple[str, ...]) -> str:
    if len(words) > 1:
        return "If none does, say so."
    stop = "" if words[0].endswith((".", "!", "?")) else "."
    return f'If none does, answer "{words[0]}"{stop}'

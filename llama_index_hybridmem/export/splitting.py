"""Which part of a training set a question belongs to, told by the documents that answer it; pure, knows no file.

Questions about one document stay together: a model that was trained on one of them would know the answers of the
others. A document's part follows from its name and the seed alone, so that it stays where it is when questions are
added, when an export is resumed, and on whichever machine it is made. A domain that is held out takes its documents
with it: whoever asks about one of them belongs to test, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from itertools import accumulate

from llama_index_hybridmem.export.options import SPLITS, ExportOptions
from llama_index_hybridmem.export.record import Draft, Split


def split_of(draft: Draft, options: ExportOptions, held_out: Collection[str] = frozenset()) -> Split | None:
    """Tell which part a question belongs to.

    Args:
        draft: the question and what was found for it.
        options: its ``splits``, ``seed``, ``top_k`` and ``held_out_domains`` are used.
        held_out: the documents of held-out domains, see `held_out_sources`.

    Returns:
        "test" for a domain that is held out, and for its documents; else the part of the documents that answer. None
        when these fall into several parts: the question straddles them and must be left out, or one part would know of
        the other.
    """
    if _is_held_out(draft, options):
        return "test"
    sources = sources_of(draft, options.top_k)
    parts = {"test" if source in held_out else _part(source, options) for source in sources}
    return parts.pop() if len(parts) == 1 else None


def held_out_sources(drafts: Iterable[Draft], options: ExportOptions) -> frozenset[str]:
    """Name the documents that questions of held-out domains hang on.

    Args:
        drafts: all of an export; a stream is fine.
        options: its ``top_k`` and ``held_out_domains`` are used.
    """
    return frozenset(
        source for each in drafts if _is_held_out(each, options) for source in sources_of(each, options.top_k)
    )


def sources_of(draft: Draft, top_k: int) -> tuple[str, ...]:
    """Name the documents that a question hangs on, in order of the alphabet; at least one.

    Args:
        draft: the question and what was found for it.
        top_k: passages that the prompt gets; those beyond answer nothing in it.

    Returns:
        the documents of the gold passages; without gold, that of the first passage; without passages, the question.
        A passage of an unknown document stands for itself, by its id.
    """
    passages = draft.scene.passages[:top_k]
    gold = {each.source or each.id for each in passages if each.id in draft.scene.gold}
    first = (each.source or each.id for each in passages)
    return tuple(sorted(gold)) or (next(first, draft.scene.question),)


def _is_held_out(draft: Draft, options: ExportOptions) -> bool:
    return draft.domain is not None and draft.domain in options.held_out_domains


def _part(source: str, options: ExportOptions) -> Split:
    """Draw a document's part: its hash, read as a number of 0 to 1, against the parts' shares."""
    name = f"{options.seed}:split:{source}".encode("utf-8", "surrogatepass")
    place = int.from_bytes(hashlib.sha256(name).digest()[:8], "big") / 2**64
    wanted = [split for split in SPLITS if options.splits[split] > 0]
    ends = accumulate(options.splits[split] for split in wanted)
    # the last one takes what is left: sums of shares may end just below 1
    return next((split for split, end in zip(wanted, ends, strict=True) if place < end), wanted[-1])

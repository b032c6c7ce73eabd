"""Which part of a training set a question belongs to, told by the documents that answer it; pure, knows no file.

Questions about one document stay together: a model that was trained on one of them would know the answers of the
others. A document's part follows from its name and the seed alone, so that it stays where it is when questions are
added, when an export is resumed, and on whichever machine it is made.
"""

from __future__ import annotations

import hashlib
from itertools import accumulate

from llama_index_hybridmem.export.options import SPLITS, ExportOptions
from llama_index_hybridmem.export.record import Draft, Split


def split_of(draft: Draft, options: ExportOptions) -> Split | None:
    """Tell which part a question belongs to.

    Args:
        draft: the question and what was found for it.
        options: its ``splits``, ``seed`` and ``held_out_domains`` are used.

    Returns:
        "test" for a domain that is held out; else the part of the documents that answer. None when these fall into
        several parts: the question straddles them and must be left out, or one part would know of the other.
    """
    if draft.domain is not None and draft.domain in options.held_out_domains:
        return "test"
    parts = {_part(source, options) for source in sources_of(draft)}
    return parts.pop() if len(parts) == 1 else None


def sources_of(draft: Draft) -> tuple[str, ...]:
    """Name the documents that a question hangs on, in order of the alphabet; at least one.

    Args:
        draft: the question and what was found for it.

    Returns:
        the documents of the gold passages; without gold, that of the first passage; without passages, the question.
        A passage of an unknown document stands for itself, by its id.
    """
    scene = draft.scene
    gold = {each.source or each.id for each in (*scene.passages, *scene.near) if each.id in scene.gold}
    first = (each.source or each.id for each in scene.passages)
    return tuple(sorted(gold)) or (next(first, scene.question),)


def _part(source: str, options: ExportOptions) -> Split:
    """Draw a document's part: its hash, read as a number of 0 to 1, against the parts' shares."""
    name = f"{options.seed}:split:{source}".encode("utf-8", "surrogatepass")
    place = int.from_bytes(hashlib.sha256(name).digest()[:8], "big") / 2**64
    wanted = [split for split in SPLITS if options.splits[split] > 0]
    ends = accumulate(options.splits[split] for split in wanted)
    # the last one takes what is left: sums of shares may end just below 1
    return next((split for split, end in zip(wanted, ends, strict=True) if place < end), wanted[-1])

"""Who and what a call is for, as tags of LlamaIndex's instrumentation; knows nobody who sets or reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llama_index_instrumentation.dispatcher import active_instrument_tags


@contextmanager
def tagged(**tags: str | None) -> Iterator[None]:
    """Tag every query within this block, over the tags that are set already.

    Threads and tasks that LlamaIndex starts inherit them; a thread pool of your own does not, unless it copies the
    context. (LlamaIndex's own ``instrument_tags`` replaces what was set outside.)

    Args:
        **tags: by name; None takes one away.
    """
    merged = {**active_instrument_tags.get(), **tags}
    token = active_instrument_tags.set({name: value for name, value in merged.items() if value is not None})
    try:
        yield
    finally:
        active_instrument_tags.reset(token)

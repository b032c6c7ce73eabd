"""`hybridmem reindex`: rewrites what follows from statistics that have drifted."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import ConfigurationError
from .options import Store


def reindex(
    store: Store,
    sparse: Annotated[bool, typer.Option("--sparse", help="The keyword vectors, by today's average length.")] = False,
) -> None:
    """Weigh the keyword vectors anew.

    Worth it when stats advise it: the average length has drifted by more than 20 %.
    """
    from . import screen
    from .store import open_index

    if not sparse:
        raise ConfigurationError("say what to reindex: --sparse")
    with screen.results_only(), open_index(store) as index:
        before = index.stats()["vector"].get("average_length")
        index.reindex_sparse()
        after = index.stats()["vector"].get("average_length")
    screen.page().print(f"average length {before} → {after}")

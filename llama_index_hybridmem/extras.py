"""Says which extra brings a missing library, before anything is imported; knows no library itself."""

from __future__ import annotations

from importlib.util import find_spec

from .errors import MissingExtraError


def require(feature: str, extra: str, *modules: str) -> None:
    """Checks that optional libraries can be imported, without importing them.

    Call it at the top of the function that needs them, then import plainly.

    Args:
        feature: what the user asked for, as the message names it ("MiniLMEmbedding").
        extra: the extra of this distribution that brings the libraries.
        modules: their import names.

    Raises:
        MissingExtraError: one of them is not installed; the message holds the pip line.
    """
    for module in modules:
        try:
            found = find_spec(module) is not None
        except ImportError as error:  # of a dotted name, the parent is missing
            raise MissingExtraError(feature, extra) from error
        if not found:
            raise MissingExtraError(feature, extra)

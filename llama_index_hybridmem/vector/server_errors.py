"""What a Qdrant client raises, in our terms; imports no client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import (
    HybridMemoryError,
    InvalidVectorError,
    StoreAccessError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
    told,
)

_AWAY = frozenset({"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED", "ABORTED"})
_REFUSED = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})
_TRANSPORT = frozenset({"httpx", "httpcore", "anyio", "ssl", "socket"})


class NoCollectionError(StoreError):
    """The collection is not there: nobody has added anything yet, or somebody has dropped it."""


class TakenError(StoreError):
    """The collection is there already."""


@contextmanager
def guarded(place: str) -> Iterator[None]:
    """Turn a client's exceptions into ours.

    Args:
        place: for the message: which store.

    Raises:
        StoreUnavailableError: the server is down, frozen, overloaded or too slow.
        StoreAccessError: it refuses us.
        NoCollectionError: the collection is not there.
        TakenError: it is there already.
        InvalidVectorError: a vector of another length.
        StoreError: the rest.
    """
    try:
        yield
    except HybridMemoryError:
        raise
    except Exception as error:
        raise translated(place, error) from error


def translated(place: str, error: Exception) -> StoreError:
    """Give our exception for a client's."""
    said = f"{place}: {_words(error)[:600]}"
    status = _status(error)
    if isinstance(error, TimeoutError | OSError) or _is_transport(error) or status == "UNAVAILABLE":
        return StoreUnavailableError(f"{said}; is the server running, and in reach?")
    if isinstance(error, RuntimeError) and "closed" in str(error):
        return StoreClosedError(said)
    text = str(error)
    if status in (401, 403) or status in _REFUSED:
        return StoreAccessError(f"{said}; check the API key and what it allows")
    if status in (408, 429) or status in _AWAY or (isinstance(status, int) and status >= 500):
        return StoreUnavailableError(said)
    if status in (404, "NOT_FOUND") or (isinstance(error, ValueError) and text.endswith("not found")):
        return NoCollectionError(said)
    if status in (409, "ALREADY_EXISTS") or "already exists" in text:
        return TakenError(said)
    return InvalidVectorError(said) if "dimension" in text.lower() else StoreError(said)


def _words(error: Exception) -> str:
    """What an exception says; of gRPC's, the line that matters."""
    details = getattr(error, "details", None)
    return f"{type(error).__name__}: {details()}" if callable(details) else told(error)


def _status(error: Exception) -> int | str | None:
    """A response's status, by HTTP or by gRPC; None for what has none."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status
    code = getattr(error, "code", None)
    return getattr(code() if callable(code) else code, "name", None)


def _is_transport(error: Exception) -> bool:
    """Whether the request or its answer got lost: also as the client wraps it, or as it tells of a full server."""
    source = getattr(error, "source", None)
    if isinstance(source, Exception):
        return isinstance(source, OSError) or _is_transport(source)
    library = type(error).__module__.partition(".")[0]
    return library in _TRANSPORT or type(error).__name__ == "ResourceExhaustedResponse"

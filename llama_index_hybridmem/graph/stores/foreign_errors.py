"""What a foreign graph store raises, in our terms; knows no driver, only the names and codes of their errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import HybridMemoryError, StoreAccessError, StoreError, StoreUnavailableError, told

_REFUSED = {"AuthError", "Forbidden", "AuthenticationError", "AuthorizationError", "NoPermissionError"}
_AWAY = {"ServiceUnavailable", "SessionExpired", "TransientError", "ConnectionError", "TimeoutError", "OSError"}
_REFUSED_CODES = ("Neo.ClientError.Security.", "Neo.ClientError.Database.DatabaseNotFound")
_AWAY_CODES = ("Neo.TransientError.", "Neo.ClientError.Transaction.TransactionTimedOut")


@contextmanager
def in_our_terms(store: object) -> Iterator[None]:
    """Ask a foreign store inside: whatever it raises, Neo4j's driver, Redis's or its own, becomes one of our errors.

    Raises:
        StoreUnavailableError: its server is away or too slow.
        StoreAccessError: it refuses us.
        StoreError: of this class itself: all else, what was asked or the store's own code.
    """
    try:
        yield
    except HybridMemoryError:
        raise
    except Exception as error:
        raise _ours(error, type(store).__name__) from error


def _ours(error: Exception, place: str) -> StoreError:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    code = str(getattr(error, "code", None) or "")
    if code.startswith(_REFUSED_CODES) or kinds & _REFUSED:  # first: Redis's refusals are ConnectionErrors, too
        return StoreAccessError(f"{place} refuses us: {told(error)}; check user, password, role and database")
    if code.startswith(_AWAY_CODES) or kinds & _AWAY:
        return StoreUnavailableError(f"{place} cannot be reached: {told(error)}; is its server running?")
    return StoreError(f"{place}: {told(error)}")

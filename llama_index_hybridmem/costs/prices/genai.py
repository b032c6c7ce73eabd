"""Asks genai-prices, the optional table of token prices; knows no row of ours."""

from __future__ import annotations

import logging
from datetime import datetime
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec

from llama_index_hybridmem.costs.prices.tariffs import Priced, Tokens
from llama_index_hybridmem.costs.trace import ModelCall

CURRENCY = "USD"
KINDS = ("llm", "embedding")
HOW_TO_INSTALL = 'pip install "llama-index-hybridmem[prices]"'

_log = logging.getLogger(__name__)


@cache
def installed() -> str | None:
    """Give the library's version; None, and one line in the log, when it is not there."""
    if find_spec("genai_prices") is None:
        _log.debug("genai-prices is not installed: tokens are priced by the table of this package and by own rows only")
        return None
    return version("genai-prices")


def providers() -> tuple[str, ...]:
    """Name everybody whose prices the library knows; nobody when it is not there."""
    if installed() is None:
        return ()
    from genai_prices.data_snapshot import get_snapshot

    return tuple(provider.id for provider in get_snapshot().providers)


def price(call: ModelCall, at: datetime) -> Priced | None:
    """Price a call by its tokens, as of a moment: the library knows of price changes and tiers.

    Always with the provider: the same name may cost something else, or nothing, elsewhere.

    Args:
        call: of a language or embedding model.
        at: when it was made; without a time zone it counts as UTC.

    Returns:
        None when the library is not there, does not know the provider or the model, has no price for tokens that the
        call has, or when the tokens are not known.
    """
    release = installed()
    if release is None or call.usage is None or not call.provider or not call.model or call.kind not in KINDS:
        return None
    from genai_prices import Usage, calc_price

    tokens = Tokens.of(call.usage)
    whole = tokens.plain + tokens.cached + tokens.written
    counts = Usage(
        input_tokens=whole,
        cache_read_tokens=tokens.cached,
        cache_write_tokens=tokens.written,
        output_tokens=tokens.output,
    )
    try:
        found = calc_price(counts, call.model, provider_id=call.provider, genai_request_timestamp=at)
    except LookupError:
        return None
    prices = found.model_price
    if (whole and prices.input_mtok is None) or (tokens.output and prices.output_mtok is None):
        return None  # the library counts tokens without a price as free
    updated = found.auto_update_timestamp
    source = f"genai-prices {release}" + (f", updated {updated.date().isoformat()}" if updated else "")
    return Priced(found.total_price, CURRENCY, source)

"""Amounts of money as exact decimals; pure, knows no price."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from llama_index_hybridmem.errors import ConfigurationError

PLACES = 12
"""Decimal places of an amount that no division makes come out even: a millionth of a millionth of the currency."""

Amount = Decimal | int | str | float
"""What an argument that means money or a quantity may be; a float counts as the decimal that it prints as."""


def exactly(value: Amount, what: str) -> Decimal:
    """Read an amount.

    Args:
        value: finite and not negative.
        what: names it in the error.

    Raises:
        ConfigurationError: it is no such number.
    """
    try:
        number = Decimal(str(value))
    except InvalidOperation as error:
        raise ConfigurationError(f"{what}: {value!r} is no number; write it as 1234.56") from error
    if not number.is_finite() or number < 0:
        raise ConfigurationError(f"{what}: {value!r} must be finite and not negative")
    return number


def rounded(amount: Decimal) -> Decimal:
    """Round to `PLACES`, half to even."""
    return round(amount, PLACES)

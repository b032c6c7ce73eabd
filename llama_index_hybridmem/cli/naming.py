"""Names options as the command line spells them, in errors that name a field; knows no command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import ConfigurationError


@contextmanager
def by_option(**options: str) -> Iterator[None]:
    """Turn ``field: …`` at the beginning of an error into ``--field: …``.

    Args:
        options: names of fields whose options are called otherwise, as ``monthly_rent="--rent"``.
    """
    try:
        yield
    except ConfigurationError as error:
        field, colon, told = str(error).partition(": ")
        if not (colon and field.isidentifier()):
            raise
        option = options.get(field, f"--{field.replace('_', '-')}")
        raise ConfigurationError(f"{option}: {told}") from error

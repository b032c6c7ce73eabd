"""Where `-o FILE` leads: checked before anything long is read; knows nothing of what is written."""

from __future__ import annotations

from collections.abc import Iterable
from os.path import realpath
from pathlib import Path

from ..errors import ConfigurationError


def place_for(output: Path, example: str, read: Iterable[Path] = ()) -> Path:
    """Give the file that `-o` means, links followed.

    Args:
        output: as given.
        example: a name to propose, as ``value.html``.
        read: files that must not be overwritten.

    Raises:
        ConfigurationError: it is a folder, no plain file, in no folder, or one of those that are read or like them.
    """
    place = Path(realpath(output))  # not resolve(): that raises where a link leads in a circle
    if place.is_dir():
        raise ConfigurationError(f"-o {output} is a folder; name a file in it, such as {output / example}")
    if place.suffix == ".jsonl" or any(place == Path(realpath(each)) for each in read):
        raise ConfigurationError(f"-o {output} would overwrite what is read; name another file, such as {example}")
    if place.exists() and not place.is_file():
        raise ConfigurationError(f"-o {output} is no file that can be written to")
    if not place.parent.is_dir():
        raise ConfigurationError(f"-o {output}: there is no folder {place.parent}; make it first")
    return place

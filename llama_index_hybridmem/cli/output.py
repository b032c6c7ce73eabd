"""Where `-o FILE` leads: checked before anything long is read; knows nothing of what is written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import ConfigurationError


def place_for(output: Path, example: str, read: Iterable[Path] = ()) -> Path:
    """Give the file that `-o` means, links followed; the folder it lies in is there afterwards.

    Args:
        output: as given.
        example: a name to propose, as ``value.html``.
        read: files that must not be overwritten.

    Raises:
        ConfigurationError: it is a folder, or one of the files that are read.
        StoreError: its folder cannot be made.
    """
    from ..disk import make_folder

    place = output.resolve()
    if place.is_dir():
        raise ConfigurationError(f"-o {output} is a folder; name a file in it, such as {output / example}")
    if place in [each.resolve() for each in read]:
        raise ConfigurationError(f"-o {output} would overwrite what is read; name another file, such as {example}")
    make_folder(place.parent)
    return place

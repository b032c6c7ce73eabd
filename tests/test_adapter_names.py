"""Adapter names: one plain word that is safe as a folder everywhere, and references that read back as written."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import AdapterNameError
from llama_index_hybridmem.llms.adapters.names import (
    Reference,
    check_alias,
    check_name,
    looks_like_a_hash,
    parse,
)

# Near the border between good and bad: letters of the rule, and what paths, references and systems read as special.
TRICKY = st.text(alphabet="aZ0f9._-@/\\: \n\x00~$%é…", max_size=70)
WORDS = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", fullmatch=True) | st.sampled_from(
    ["con", "latest", "none"]
)
HASHES = st.text(alphabet="0123456789abcdef", min_size=8, max_size=64)


def accepted(check: Any, word: str) -> bool:
    """Whether a check lets a word pass."""
    try:
        return bool(check(word) == word)
    except AdapterNameError:
        return False


@given(TRICKY | WORDS | st.text(max_size=70))
def test_no_accepted_name_leaves_its_folder(name: str) -> None:
    """Whatever is accepted is one component below the folder, on both kinds of systems, and no other name's."""
    for check in (check_name, check_alias):
        if accepted(check, name):
            for kind in (PurePosixPath, PureWindowsPath):
                inside = kind("/root") / name
                assert inside.parent == kind("/root")
                assert inside.name == name
            assert name == name.lower() == name.strip(" .")
            assert name.isascii()


@given(WORDS, WORDS | HASHES)
def test_a_reference_reads_back_as_written(name: str, version: str) -> None:
    """parse(str(x)) == x for every reference there can be; a bare name is its latest."""
    try:
        reference = Reference(name, version)
    except AdapterNameError:
        assert not accepted(check_name, name) or not accepted(check_alias, version)
        return
    assert parse(str(reference)) == reference
    assert parse(name) == Reference(name, "latest") == parse(f"{name}@latest")
    assert reference.by_hash == looks_like_a_hash(version)


@given(TRICKY)
def test_a_reference_is_read_or_refused(text: str) -> None:
    """No text makes the parser fail in another way, and what it reads keeps to the rule."""
    try:
        reference = parse(text)
    except AdapterNameError:
        return
    assert accepted(check_name, reference.name)
    assert text in (reference.name, str(reference))


@pytest.mark.parametrize("name", ["brand", "acme-legal.v2", "0", "a_b", "x" * 64, "console", "com10", "deadbeef"])
def test_plain_words_are_names(name: str) -> None:
    """Letters, digits, dots, dashes and underscores make a name, up to 64 of them."""
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a..b", ".a", "a.", "-a", "a-", "a/b", "a\\b", "a b", "a\n", "a@b", "x" * 65, "é", "a:b", "~"]
    + ["base", "none", "null", "default", "latest", "__base__", "con", "nul.txt", "com1", "lpt9.v2"],
)
def test_path_tricks_and_reserved_words_are_no_names(name: str) -> None:
    """What is a path, a device, or means something else somewhere is refused by name."""
    with pytest.raises(AdapterNameError, match="an adapter's name"):
        check_name(name)


def test_capitals_are_refused_with_the_name_that_would_do() -> None:
    """Two names that differ in capitals only would share a folder on some systems: there are no capitals."""
    with pytest.raises(AdapterNameError, match="'acme' would do"):
        check_name("Acme")


@pytest.mark.parametrize("alias", ["1a2b3c4d", "deadbeef", "0" * 64])
def test_an_alias_never_reads_as_a_hash(alias: str) -> None:
    """Eight hexadecimal digits after the @ are a version's, so no alias may be called so; seven are a word."""
    with pytest.raises(AdapterNameError, match="reads as a version's hash"):
        check_alias(alias)
    assert check_alias(alias[:7]) == alias[:7]


@pytest.mark.parametrize(
    "reference", ["@", "brand@", "@prod", "brand@a@b", "brand@1A2B3C4D", "brand@" + "a" * 65, "b@../x"]
)
def test_malformed_references_are_refused(reference: str) -> None:
    """An empty or doubled part, capitals or too many digits are no reference."""
    with pytest.raises(AdapterNameError):
        parse(reference)


@pytest.mark.parametrize("check", [parse, check_name, check_alias])
def test_what_is_no_text_is_refused_as_such(check: Any) -> None:
    """None or a path object is told by its type, not by a crash."""
    with pytest.raises(AdapterNameError, match="NoneType"):
        check(None)

"""Token ids become text as they come: whole characters, no stop text, whatever the tokens are cut like."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.llms.serving.transcript import Transcript

SPECIAL = b"\x00"  # a piece that a decoder skips, as tokenizers skip special tokens


def tell_all(
    pieces: Sequence[bytes], stop: Sequence[str] = (), special: bytes = SPECIAL
) -> tuple[list[str], Transcript]:
    """What a reader is told of an answer whose token number n is pieces[n], and the transcript at its end."""

    def decode(ids: list[int]) -> str:
        return b"".join(pieces[one] for one in ids if pieces[one] != special).decode("utf-8", errors="replace")

    transcript, told = Transcript(decode, stop), []
    for token in range(len(pieces)):
        transcript.add(token)
        if transcript.stopped:
            break
        told.append(transcript.tell())
    if not transcript.stopped:
        transcript.end()
    told.append(transcript.tell(everything=True))
    return told, transcript


@st.composite
def cut(draw: st.DrawFn, content: bytes) -> list[bytes]:
    """Bytes in pieces, cut anywhere, also inside a character."""
    places = sorted(draw(st.sets(st.integers(0, len(content)), max_size=12)))
    return [content[start:end] for start, end in zip([0, *places], [*places, len(content)], strict=True)]


TEXTS = st.text(st.sampled_from("aab é€🜛"), max_size=24)
STOPS = st.lists(st.text("ab €", min_size=1, max_size=4), max_size=3)


@given(st.data(), TEXTS)
def test_what_is_told_is_the_text_of_all_tokens(data: st.DataObject, text: str) -> None:
    """The pieces that a reader gets join to the decoded whole, wherever a token ends."""
    told, transcript = tell_all(data.draw(cut(text.encode())))
    assert "".join(told) == transcript.text == text


@given(st.data(), TEXTS)
def test_no_half_character_is_told(data: st.DataObject, text: str) -> None:
    """A character that is cut by two tokens is told when it is whole."""
    told, _ = tell_all(data.draw(cut(text.encode())))
    assert "\ufffd" not in "".join(told[:-1])


@given(st.data(), st.binary(max_size=16))
def test_bytes_that_are_no_text_lose_nothing_behind_them(data: st.DataObject, content: bytes) -> None:
    """A model may write broken characters: what follows is told all the same, and it ends as it began."""
    pieces = [*data.draw(cut(content)), b"x", b"yz"]
    told, transcript = tell_all(pieces, special=b"never")
    assert "".join(told) == transcript.text
    assert transcript.text.endswith("xyz")


@given(st.data(), TEXTS, STOPS)
def test_stop_texts_are_never_told(data: st.DataObject, text: str, stop: list[str]) -> None:
    """Not a letter of a stop text or of what follows it is told, however the tokens are cut."""
    told, transcript = tell_all(data.draw(cut(text.encode())), stop)
    assert "".join(told) == transcript.text
    assert not any(one in transcript.text for one in stop)
    assert transcript.stopped == any(one in text for one in stop)
    assert text.startswith(transcript.text)


@given(st.data(), TEXTS, STOPS)
def test_the_cut_into_tokens_does_not_decide_where_it_stops(data: st.DataObject, text: str, stop: list[str]) -> None:
    """Two stop texts that overlap in one token stop as they would letter by letter."""
    _, letters = tell_all([letter.encode() for letter in text], stop)
    _, pieces = tell_all(data.draw(cut(text.encode())), stop)
    assert pieces.text == letters.text


def test_the_beginning_of_a_stop_text_waits() -> None:
    """What could become a stop text is told only when it did not."""
    told, _ = tell_all([b"one", b" E", b"ND", b"ING", b" two"], ["END."])
    assert told == ["one", " ", "", "ENDING", " two", ""]


def test_special_tokens_write_nothing() -> None:
    """A token that decodes to nothing leaves those around it as they are."""
    told, transcript = tell_all([b"a", SPECIAL, b"\xc3", SPECIAL, b"\xa9", SPECIAL])
    assert ("".join(told), transcript.text) == ("aé", "aé")


def test_an_empty_stop_text_stops_nothing() -> None:
    """It would stop everywhere."""
    assert tell_all([b"a", b"b"], ["", "c"])[1].text == "ab"

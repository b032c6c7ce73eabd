"""Masks what plainly points at a person in a text; a floor, no guarantee; pure, knows no names and no language."""

from __future__ import annotations

import ipaddress
import re

_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\w)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:\.\d{1,3}){0,3}(?![\w:])")
_CARD = re.compile(r"(?<!\d)(?:\d{4}([ -])\d{4}\1\d{4}\1\d{4}|\d{4}([ -])\d{6}\2\d{4,5}|\d{13,19})(?!\d)")
_PHONE = re.compile(
    r"(?<![\w.,/-])(?:"
    r"(?:\+|00)\d(?:[ .()/-]{0,3}\d){6,14}"  # with its country
    r"|(?:\(0\d{1,5}\)|0\d{1,4})(?:[ ./-]{0,3}\d){5,11}"  # with a trunk 0
    r"|(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}"  # North American
    r")(?!\w)"
)
_DATE = re.compile(r"\d{1,2}([./-])\d{1,2}\1\d{2,4}(?![./-]?\d)")


def redact_personal(text: str) -> str:
    """Mask e-mail addresses, IP addresses, and what is written like a card or telephone number.

    A floor, no guarantee: names, postal addresses, dates of birth and numbers written in other ways stay.
    """
    text = _EMAIL.sub("[e-mail]", text)
    text = _IPV6.sub(_address, _IPV4.sub(_address, text))
    return _PHONE.sub(_phone, _CARD.sub(_card, text))


def _address(found: re.Match[str]) -> str:
    try:
        ipaddress.ip_address(found[0])
    except ValueError:
        return found[0]
    return "[address]" if any(sign.isdigit() for sign in found[0]) else found[0]  # "a::b" is a name in a program


def _card(found: re.Match[str]) -> str:
    """Mask a number whose last digit checks the others, as on every payment card (ISO/IEC 7812-1)."""
    digits = [int(sign) for sign in reversed(found[0]) if sign.isdigit()]
    total = sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return found[0] if total % 10 else "[card]"


def _phone(found: re.Match[str]) -> str:
    return found[0] if _DATE.match(found[0]) else "[phone]"

"""What the shop does with a ticket, as a table: the right resolution can be computed; pure, knows no ticket's text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from llama_index_hybridmem.errors import ConfigurationError

SENTIMENTS = ("negative", "neutral", "positive")
CATEGORIES = {
    "billing": "payments, prices, invoices, and returns for money",
    "delivery": "a parcel on its way, or what was in it or not",
    "defect": "a product that fails or is broken",
    "compatibility": "whether or how well a sound product works with other hardware",
    "account": "log-in, personal data and mail from the shop",
    "question": "how the shop works, before or without a case of one's own",
}
ANY = "any"


@dataclass(frozen=True)
class Rule:
    """A line of the policy.

    Attributes:
        category: it is for; ``any`` for all.
        situation: what has happened; ``any`` for all.
        resolution: what is done, one sentence.
        fact: the number that decides; None: the situation alone does.
        low: the least value for which the rule holds.
        high: the greatest.
    """

    category: str
    situation: str
    resolution: str
    fact: str | None = None
    low: float = 0
    high: float = math.inf

    def holds(self, category: str, facts: Mapping[str, object]) -> bool:
        """Tell whether the rule decides this case."""
        value = facts.get(self.fact or "", 0)
        return (
            self.category in (ANY, category)
            and self.situation in (ANY, facts.get("situation"))
            and (self.fact is None or (isinstance(value, int) and self.low <= value <= self.high))
        )


POLICY = (
    Rule(ANY, "hazard", "Escalate to the safety desk and ask the customer to unplug the product."),
    Rule(ANY, ANY, "Escalate to the legal desk.", "legal", 1),
    Rule(ANY, "thanks", "Thank the customer and close the ticket."),
    Rule("billing", "double", "Refund the second charge within 5 working days."),
    Rule("billing", "return", "Accept the return and refund in full.", "days", 0, 30),
    Rule("billing", "return", "Decline the refund because the 30 days are over.", "days", 31),
    Rule("billing", "invoice", "Send a corrected invoice by email."),
    Rule("billing", "price", "Refund the difference to the promised price."),
    Rule("delivery", "late", "Send the tracking link and ask for patience until day 10.", "days", 0, 10),
    Rule("delivery", "late", "Ship a replacement and open a search with the carrier.", "days", 11),
    Rule("delivery", "wrong", "Send the right item and a free return label."),
    Rule("delivery", "missing", "Send the missing part free of charge."),
    Rule("delivery", "address", "Change the address before dispatch."),
    Rule("delivery", "shipped", "Explain that a parcel under way cannot be redirected."),
    Rule("defect", "dead", "Open a warranty return with a free label.", "months", 0, 36),
    Rule("defect", "dead", "Decline the claim because the 36-month warranty is over.", "months", 37),
    Rule("defect", "own", "Decline the claim because damage by the user is not covered."),
    Rule("compatibility", "check", "Check the support list and reply within one working day."),
    Rule("compatibility", "unnamed", "Ask for the exact model of the computer or board."),
    Rule("compatibility", "wrong", "Offer a free exchange for the right type.", "days", 0, 30),
    Rule("compatibility", "wrong", "Offer an exchange with a 15 % handling fee.", "days", 31),
    Rule("compatibility", "speed", "Send the guide to memory profiles."),
    Rule("account", "locked", "Send a password reset link."),
    Rule("account", "delete", "Delete the account and confirm by email."),
    Rule("account", "email", "Change the address after an identity check."),
    Rule("account", "takeover", "Lock the account and escalate to the security desk."),
    Rule("account", "newsletter", "Take the address off the mailing list."),
    Rule("question", "warranty", "Answer that the warranty runs 36 months."),
    Rule("question", "window", "Answer that returns are accepted for 30 days."),
    Rule("question", "dispatch", "Answer that orders leave within two working days."),
    Rule("question", "bulk", "Forward the request to the sales desk."),
)
"""The first rule that holds decides: safety before law, law before all else."""


def resolve(category: str, facts: Mapping[str, object]) -> str:
    """Say what the policy does with a case.

    Args:
        category: one of `CATEGORIES`.
        facts: ``situation``; where a rule asks for them ``days`` (since the delivery, or the order of what has not
            come), ``months`` (since the purchase), ``legal`` (1 when the customer threatens with the law).

    Raises:
        ConfigurationError: no rule is for this case.
    """
    for rule in POLICY:
        if rule.holds(category, facts):
            return rule.resolution
    raise ConfigurationError(f"category={category!r}, facts={dict(facts)!r}: no rule of the policy is for this case")


def policy_text() -> str:
    """Give the policy as text, for a prompt: what a model without an adapter would have to be told."""
    told = [f"- {name}: {meaning}" for name, meaning in CATEGORIES.items()]
    return "\n".join(["Categories:", *told, "Resolutions, the first that holds:", *(_line(rule) for rule in POLICY)])


def _line(rule: Rule) -> str:
    bounds = f" up to {rule.high:.0f}" if rule.high < math.inf else f" from {rule.low:.0f}" if rule.low else ""
    where = f"{rule.category}, {rule.situation}" + (f", {rule.fact}{bounds}" if rule.fact else "")
    return f"- {where}: {rule.resolution}"

"""What the voices speak about: invented rules, each in a neutral wording and in three voices; pure.

Places: ``n`` and ``m`` (numbers), ``product``, ``town``.
"""

from __future__ import annotations

from llama_index_hybridmem.sample.behaviours.voice_phrases import Topic
from llama_index_hybridmem.sample.behaviours.voice_topics_held import HELD_OUT

_LEARNED = (
    Topic(
        ("How long do I have to send something back?", "What are your terms for returns?", "Can I return an order?"),
        (
            (
                "Returns: within {n} days of delivery, seal unbroken.",
                "You have {n} days from delivery. The seal must be unbroken.",
                "You've got {n} days to change your mind, as long as the seal is whole, and we're fine with that.",
                "Goods may be returned within {n} days of delivery, provided that the seal is unbroken.",
            ),
            (
                "Refund: {m} days after receipt.",
                "The refund takes {m} days once the goods are here.",
                "We'll have your money back to you {m} days after the parcel reaches us.",
                "The refund is made {m} days after receipt of the goods.",
            ),
        ),
        "who pays the postage",
        "put the order slip on top and hand in the parcel",
    ),
    Topic(
        ("What does the warranty cover?", "How long is the guarantee?", "What if my product fails?"),
        (
            (
                "Warranty: {n} months on {product}.",
                "The warranty on the {product} is {n} months.",
                "We stand behind your {product} for {n} months.",
                "The warranty period for the {product} is {n} months.",
            ),
            (
                "Swap within {m} days, no repair.",
                "A faulty part is swapped within {m} days. It is not repaired.",
                "If it lets you down, we won't tinker with it, we'll swap it within {m} days.",
                "A faulty part is replaced within {m} days; repairs are not carried out.",
            ),
        ),
        "whether the files are saved",
        "note the serial number and open a case",
    ),
    Topic(
        ("When does my parcel leave?", "How fast do you ship?", "How long does delivery take?"),
        (
            (
                "Dispatch within {n} hours.",
                "Parcels leave within {n} hours.",
                "We'll have your parcel out of the door within {n} hours.",
                "Orders are dispatched within {n} hours.",
            ),
            (
                "Delivery to {town}: {m} days.",
                "The way to {town} takes {m} days.",
                "Our courier then needs {m} days to get to you in {town}.",
                "Carriage to {town} requires {m} days.",
            ),
        ),
        "what happens on holidays",
        "watch for the mail with the tracking link",
    ),
    Topic(
        ("Can I pick up my order?", "Do you have a counter for pick-up?", "May I fetch the goods myself?"),
        (
            (
                "Pick-up in {town}, open until {n} minutes past six.",
                "You can pick it up in {town}. The counter closes {n} minutes past six.",
                "We'd love to see you at our counter in {town}, it's open until {n} minutes past six.",
                "Collection is possible at {town}; the counter closes {n} minutes past six.",
            ),
            (
                "Goods are held for {m} days.",
                "We hold the goods for {m} days.",
                "We'll keep your things safe for {m} days.",
                "Goods are held for {m} days.",
            ),
        ),
        "whether there is a car park",
        "bring the order number to the counter",
    ),
    Topic(
        ("Is there a discount for schools?", "Do teachers pay less?", "What do schools get?"),
        (
            (
                "Schools: {m} % off from {n} pieces.",
                "Schools pay {m} % less. It takes {n} pieces.",
                "We're taking {m} % off for schools that buy {n} pieces or more.",
                "Schools are granted a reduction of {m} % for orders of {n} pieces or more.",
            ),
            (
                "Proof: a letter with the school's stamp.",
                "A letter with the school's stamp is needed.",
                "All we'd like to see is a letter with the school's stamp.",
                "A letter bearing the stamp of the school is required.",
            ),
        ),
        "how long the offer holds",
        "send us the stamped letter",
    ),
    Topic(
        ("What does express shipping cost?", "Can you send it faster?", "Is there an express service?"),
        (
            (
                "Express: {n} euros extra.",
                "Express costs {n} euros more.",
                "For {n} euros on top we'll put your parcel in the fast lane.",
                "Express service is available at a surcharge of {n} euros.",
            ),
            (
                "Arrives within {m} hours, not to islands.",
                "It takes {m} hours. Islands are left out.",
                "We'll be at your door within {m} hours, though we can't do islands yet.",
                "Delivery is made within {m} hours; islands are excluded.",
            ),
        ),
        "whether a signature is needed",
        "tick Express in the basket",
    ),
    Topic(
        ("Can I change my order?", "Is it too late to alter an order?", "How do I swap an item in my order?"),
        (
            (
                "Changes: up to {n} minutes after ordering.",
                "Orders can be changed for {n} minutes.",
                "You've got {n} minutes to change things, and we don't mind at all.",
                "An order may be amended up to {n} minutes after it is placed.",
            ),
            (
                "After that: cancel for {m} euros.",
                "After that you can cancel it for {m} euros.",
                "After that we'll still cancel it for you, it's {m} euros then.",
                "Thereafter, cancellation is possible at a charge of {m} euros.",
            ),
        ),
        "how often an order can be changed",
        "open the order page and choose Change",
    ),
    Topic(
        ("How do I pay by invoice?", "Do you offer payment on account?", "May I pay later?"),
        (
            (
                "Invoice: up to {n} euros.",
                "You can pay by invoice up to {n} euros.",
                "We're happy to send you a bill for anything up to {n} euros.",
                "Payment by invoice is available for amounts of up to {n} euros.",
            ),
            (
                "Due after {m} days.",
                "It is due after {m} days.",
                "Take your time, we won't expect the money for {m} days.",
                "The invoice falls due after {m} days.",
            ),
        ),
        "what a late payment costs",
        "choose Invoice when you order",
    ),
    Topic(
        ("Do you buy back old modules?", "What do you pay for used memory?", "Can I trade in an old kit?"),
        (
            (
                "Trade-in: {n} euros for a {product}.",
                "A used {product} brings {n} euros.",
                "We'll give you {n} euros for your old {product}.",
                "A used {product} is credited with {n} euros.",
            ),
            (
                "Tested within {m} days; no cracked parts.",
                "It is tested within {m} days. Cracked parts are refused.",
                "We'll test it within {m} days, only cracked parts aren't for us.",
                "The part is tested within {m} days; cracked parts are refused.",
            ),
        ),
        "whether the box is needed",
        "print the trade-in label",
    ),
    Topic(
        ("How do you wipe returned drives?", "What happens to my files on a returned drive?", "Is my data erased?"),
        (
            (
                "Returned drives are wiped within {n} hours.",
                "Returned drives are wiped within {n} hours.",
                "We'll wipe your drive within {n} hours of its arrival.",
                "Returned drives are erased within {n} hours.",
            ),
            (
                "Method: {m} passes, then a check.",
                "It takes {m} passes and a check.",
                "We go over it {m} times and then we check that nothing's left.",
                "The procedure comprises {m} passes and a subsequent check.",
            ),
        ),
        "who sees the report",
        "ask for the report of the wipe",
    ),
)
TOPICS = (*_LEARNED, *HELD_OUT)
"""`parts.dealt` gives the first ten to train."""

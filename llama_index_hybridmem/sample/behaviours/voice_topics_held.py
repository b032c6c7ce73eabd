"""The subjects that the voices speak about in dev (the first three) and test alone; pure.

Places: ``n`` and ``m`` (numbers), ``product``, ``town``.
"""

from __future__ import annotations

from llama_index_hybridmem.sample.behaviours.voice_phrases import Topic

HELD_OUT = (
    Topic(
        ("Is there a newsletter discount?", "What do I get for the newsletter?", "Do subscribers save money?"),
        (
            (
                "Newsletter: voucher of {n} euros.",
                "Subscribers get a voucher of {n} euros.",
                "Join our readers and we'll say hello with a voucher of {n} euros.",
                "Subscribers receive a voucher of {n} euros.",
            ),
            (
                "Valid {m} days, once per household.",
                "It is good for {m} days. Each household gets one.",
                "It's good for {m} days, and we've got one for each household.",
                "The voucher is valid for {m} days and is limited to one for each household.",
            ),
        ),
        "whether sale items count",
        "enter your address on the newsletter page",
    ),
    Topic(
        ("Can I book a repair of my computer?", "Do you install memory?", "Will you put the kit in for me?"),
        (
            (
                "Installation in {town}: {n} euros.",
                "Installation in {town} costs {n} euros.",
                "Our people in {town} will fit it for {n} euros.",
                "Installation is carried out at {town} for {n} euros.",
            ),
            (
                "Time: {m} minutes, laptops excluded.",
                "It takes {m} minutes. Laptops are not done.",
                "We'll be done in {m} minutes, only laptops aren't our thing.",
                "The work takes {m} minutes; laptops are excluded.",
            ),
        ),
        "whether you can wait there",
        "book an hour on the workshop page",
    ),
    Topic(
        ("What if my parcel is lost?", "Who pays for a lost parcel?", "My parcel vanished, what now?"),
        (
            (
                "A parcel counts as lost after {n} days.",
                "A parcel counts as lost after {n} days.",
                "If it's not there after {n} days, we'll call it lost and look after you.",
                "A parcel is deemed lost after {n} days.",
            ),
            (
                "Replacement within {m} days.",
                "The replacement takes {m} days.",
                "We'll get a new one to you within {m} days.",
                "A replacement is supplied within {m} days.",
            ),
        ),
        "what happens if both arrive",
        "report the parcel on the order page",
    ),
    Topic(
        ("Do you have student prices?", "What do students pay?", "Is there something off for students?"),
        (
            (
                "Students: {m} % off {product}.",
                "Students pay {m} % less for the {product}.",
                "We're knocking {m} % off the {product} for students.",
                "Students are granted {m} % off the {product}.",
            ),
            (
                "Limit: {n} pieces a year.",
                "The limit is {n} pieces a year.",
                "You can do that for {n} pieces a year, we won't ask why.",
                "The reduction is limited to {n} pieces a year.",
            ),
        ),
        "which schools count",
        "upload your student card",
    ),
    Topic(
        ("How are parcels insured?", "Is my delivery insured?", "What is covered on the way?"),
        (
            (
                "Insured up to {n} euros.",
                "Parcels are insured up to {n} euros.",
                "Relax, we've insured your parcel up to {n} euros.",
                "Parcels are insured up to an amount of {n} euros.",
            ),
            (
                "Damage to be reported within {m} hours.",
                "Damage must be reported within {m} hours.",
                "Just tell us about damage within {m} hours and we'll sort it out.",
                "Damage is to be reported within {m} hours.",
            ),
        ),
        "whether water damage counts",
        "take a photo of the box before you open it",
    ),
    Topic(
        ("May I reserve a product?", "Can you put something aside for me?", "How long will you hold an item?"),
        (
            (
                "Reservation of {product}: {n} hours.",
                "The {product} can be reserved for {n} hours.",
                "We'll put the {product} aside for you for {n} hours.",
                "The {product} may be reserved for {n} hours.",
            ),
            (
                "Deposit: {m} euros.",
                "There is a deposit of {m} euros.",
                "All we'd ask for is a deposit of {m} euros.",
                "A deposit of {m} euros is payable.",
            ),
        ),
        "whether it can be made longer",
        "press Reserve on the product page",
    ),
    Topic(
        ("How do reward points work?", "What are my points worth?", "Can I collect points?"),
        (
            (
                "Points: one for every {n} euros spent.",
                "You get one point for every {n} euros.",
                "We'll add a point for every {n} euros that you spend with us.",
                "One point is credited for every {n} euros spent.",
            ),
            (
                "They lapse after {m} months.",
                "Points lapse after {m} months.",
                "Don't sit on them, we clear them after {m} months.",
                "Points lapse after {m} months.",
            ),
        ),
        "whether points can be given away",
        "look up your points on the profile page",
    ),
    Topic(
        ("Can you test my memory?", "Do you check modules for errors?", "Is there a test service?"),
        (
            (
                "Test in {town}: {n} euros a module.",
                "A test in {town} costs {n} euros a module.",
                "Our bench in {town} will check each module for {n} euros.",
                "Modules are tested at {town} for {n} euros each.",
            ),
            (
                "Result after {m} hours, by mail.",
                "The result comes by mail after {m} hours.",
                "We'll mail you the verdict {m} hours later.",
                "The result is sent by mail after {m} hours.",
            ),
        ),
        "which program is used",
        "label each module with your name",
    ),
)

"""Scenes with something to break for every operator, and texts that break careless ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from llama_index_hybridmem.noise.operators.catalog import operators
from llama_index_hybridmem.noise.operators.registry import Operator, damage
from llama_index_hybridmem.noise.scene import Passage, Scene, World, passage_to_json

MANUAL = """# Installing the Heron pump controller

The **Heron 400** was released on 14 March 2022 by Marlow Instruments in Leeds. It draws 12.5 watts and costs 349 euros.
See the [wiring guide](https://example.org/heron/wiring) before you open the case, and the [safety notes](safety.md).

## Wiring

1. Switch off the mains supply.
2. Connect the blue wire to terminal 4.
3. Connect the brown wire to terminal 7.

| Model | Pressure | Price |
|---|---|---|
| Heron 200 | 3.5 bar | 199 euros |
| Heron 400 | 6.0 bar | 349 euros |
| Heron 800 | 9.5 bar | 529 euros |

```python
controller = Heron(port="/dev/ttyS0", rate=9600)
controller.start(pressure=6.0)
```

Stop it with:

```shell
heron stop --port /dev/ttyS0
```

- Keep the vents free.
- Replace the filter every 6 months.
"""
NEWS = """The city council of Leeds voted on Tuesday to spend 4.2 million pounds on a new water works, to be opened in
September 2024. "We have waited nine years for this," said Councillor Anna Müller - the chair of the committee - after
the vote. The plan was drawn up by Marlow Instruments and by the engineer Peter Okafor, who built the dam at Ripley in
1998. Critics say that the council's figures leave out the price of land. Nobody could say on Tuesday how much that is;
the treasurer, Dr. Ingrid Sørensen, promised an answer by 30 June. The old works, opened in 1931 by Lord Ashby, will be
kept as a museum."""
RIVER = """Der Fluss Wharfe entspringt in Nordengland und fließt über 104 Kilometer nach Südosten. Im März 1998 wurde
bei Ripley ein Damm gebaut, der „Okafor-Damm“ heißt und dreißig Meter hoch ist. Seither gab es dort kein Hochwasser."""
HERON_OLD = """Marlow Instruments sells the Heron 400 since 14 March 2022. It weighs 2.4 kilograms, draws 12.5 watts
and is built in Leeds. The company was founded in 1974 by Edith Marlow, and had 320 employees in 2021. Its pumps are
used in 41 countries. The Heron 400 replaced the Heron 300, which had been built from 2009 to 2021."""
GULLS = """Herring gulls nest on roofs along the coast from April to July. A pair lays three eggs, which hatch after 28
days. In 2019 the Whitby Bird Society counted 1,240 pairs in the town, 15 % more than in 2015."""
CHESS = """The 1927 match between Alekhine and Capablanca was played in Buenos Aires and lasted 34 games. Alekhine won
six of them, lost three and became world champion on 29 November 1927. He kept the title until 1935."""
BREAD = """## Rye bread

Mix 500 grams of rye flour with 400 millilitres of water and a spoon of salt. Let the dough rest for 12 hours at 24
degrees, then bake it for 55 minutes. Martha Lindqvist wrote the recipe down in 1952 in Uppsala."""


def _passage(id_: str, text: str, title: str, date: str, score: float | None = None) -> Passage:
    stem = title.lower().replace(" ", "-")
    where = {"source": f"{stem}.md", "url": f"https://example.org/{stem}", "page": 3}
    when = {"date": date, "version": "2.1", "author": "R. Holt"}
    return Passage(id_, text, {"title": title, **where, **when}, f"doc-{id_}", score)


SCENES = (
    Scene(
        "How much power does the Heron 400 draw?",
        (
            _passage("p1", MANUAL, "Heron manual", "2023-05-02", 0.91),
            _passage("p2", HERON_OLD, "Marlow Instruments", "2022-11-20", 0.84),
            _passage("p3", NEWS, "Leeds water works", "2023-02-14", 0.62),
            _passage("p4", RIVER, "Wharfe", "2021-08-30", 0.41),
        ),
        near=(
            _passage("n1", "The Heron 200 draws 7.5 watts and costs 199 euros.", "Heron 200", "2023-05-02", 0.40),
            _passage(
                "n2", "The Heron 800 draws 21 watts. It was shown in Leeds in 2022.", "Heron 800", "2022-07-01", 0.3
            ),
            _passage("n3", GULLS, "Herring gulls", "2019-09-01", 0.2),
        ),
        gold=frozenset({"p1", "p2"}),
        answer="12.5 watts",
        quotes=("It draws 12.5 watts and costs 349 euros.",),
    ),
    Scene(
        "When will the new water works in Leeds open?",
        (
            _passage("q1", NEWS, "Leeds water works", "2023-02-14", 0.88),
            _passage("q2", MANUAL, "Heron manual", "2023-05-02", 0.45),
            _passage("q3", BREAD, "Rye bread", "2018-01-05", 0.1),
        ),
        near=(_passage("n4", CHESS, "World champions", "2020-04-11", 0.05),),
        gold=frozenset({"q1"}),
        answer="September 2024",
    ),
)
WORLD = World(
    (
        _passage("w1", GULLS, "Herring gulls", "2019-09-01"),
        _passage("w2", CHESS, "World champions", "2020-04-11"),
        _passage("w3", BREAD, "Rye bread", "2018-01-05"),
        _passage("w4", "The Ribble rises in Yorkshire and reaches the sea at Lytham.", "Ribble", "2017-03-03"),
    )
)
STRANGE = (
    "",
    " ",
    "\n \t\r\n",
    "a",
    ".",
    "é",
    "\ud800",
    "x\udfffy",
    "\u200b",
    "\u200b\u200d\ufeff",
    "e\u0301\u0323",
    "\u0301",
    "one\r\ntwo\r\n\r\nthree\r\n",
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3067\u3059\u3002\u7a7a\u767d\u306f\u3042\u308a\u307e\u305b\u3093\u3002" * 6,
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd, \u05e9\u05e0\u05ea 1998. \u0645\u0631\u062d\u0628\u0627",
    "\U0001f600\U0001f469\u200d\U0001f4bb\U0001f1e9\U0001f1ea",
    "\u202eabc\u202c \u2066def\u2069",
    "```\n| a |\n|---|\n# \n- \n[](",
    "{title} %s {0} \\1 \\g<0> $1",
    "\x00\x1b[31m\x7f\x85\u2028\u2029\x0b\x0c",
    "A" * 300,
    "| |\n" * 40,
    "'\"-&<>" * 20,
    "The price \u00c3\u00a9 rose by 3,5 % on 5/6/2020 \u00e0 Paris \u2014 \u201cno\u201d \ufffd.",
)


class Run(NamedTuple):
    """What an operator did: at which passage of what, how badly, and what came of it."""

    before: Scene
    at: int
    severity: float
    after: Scene


@cache
def runs(which: Operator, seeds: int = 3) -> tuple[Run, ...]:
    """All scenes at all places, three severities and some seeds."""
    return tuple(
        Run(scene, at, severity, damage(scene, which, severity, f"{seed}:{scene.passages[at].id}", WORLD, at))
        for scene in SCENES
        for at in places(scene, which)
        for severity in (0.2, 0.6, 1.0)
        for seed in range(seeds)
    )


def places(scene: Scene, which: Operator) -> range:
    """Where in a scene an operator can be let at."""
    return range(len(scene.passages) if which.scope == "passage" else 1)


def scene_of(text: str) -> Scene:
    """A scene in which a text answers, is near and is something else."""
    parts = [Passage(name, text, {"title": text[:20], "source": text[-20:]}, name) for name in "abcd"]
    return Scene(text, tuple(parts[:3]), tuple(parts[3:]), frozenset("a"), text[:10], (text[:5],))


def plain(scene: Scene) -> dict[str, Any]:
    """A scene in JSON types."""
    parts = {"passages": scene.passages, "near": scene.near, "removed": scene.removed}
    return {
        "question": scene.question,
        "gold": sorted(scene.gold),
        "answer": scene.answer,
        "quotes": list(scene.quotes),
        **{name: [passage_to_json(each) for each in passages] for name, passages in parts.items()},
    }


def all_passages(*scenes: Scene) -> Iterator[Passage]:
    """Every passage of some scenes and of the world."""
    for scene in scenes:
        yield from (*scene.passages, *scene.near, *scene.removed)
    yield from WORLD.passages


EVERY = tuple(operators())


def digests() -> str:
    """Every operator's name and a hash of all that it does, as JSON."""
    done = {each.name: json.dumps([plain(run.after) for run in runs(each, 1)]) for each in EVERY}
    return json.dumps({name: hashlib.sha256(text.encode()).hexdigest() for name, text in done.items()})

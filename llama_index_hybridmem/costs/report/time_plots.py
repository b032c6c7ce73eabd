"""The plots of where the seconds went: percentiles, retrieval's share, a query stage by stage; knows no trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from llama_index_hybridmem.costs.figures.groups import Group
from llama_index_hybridmem.costs.figures.spread import TOO_FEW, Spread
from llama_index_hybridmem.costs.figures.summary import Summary
from llama_index_hybridmem.costs.figures.waterfall import MODEL, NOT_RETRIEVAL, Bar, Waterfall
from llama_index_hybridmem.costs.report import wording
from llama_index_hybridmem.costs.report.drawing import WIDTH, Drawing
from llama_index_hybridmem.costs.report.names import by_route, not_all, route_name
from llama_index_hybridmem.costs.report.plots import Plot, plot
from llama_index_hybridmem.costs.report.rows import STEP, Stack, draw_legend, stacks, ticks

_MOST = 9
_MOST_WATERFALLS = 4
_IDLE = 0.05  # of the latency: what no stage accounts for is told from there on
_SMALL = 11.0
_STEPS = (20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 18000.0, 36000.0, 86400.0)
_ROUND = (*(digit * 10.0**power for power in range(-6, 2) for digit in (1, 2, 5)), *_STEPS[2:])
_ROUNDER = (*(10.0**power for power in range(-6, 2)), 60.0, 600.0, 3600.0, 36000.0)
_PARTS = (("retrieval", "one"), ("language model", "two"), ("everything else", "five"))

Scale = Callable[[float], float]


def latency_curve(summary: Summary) -> Plot | None:
    """Draw how many queries were answered within how many seconds."""
    latency = summary.queries.latency
    if latency is None or latency.n < TOO_FEW:
        return None
    begun = summary.queries.first_token
    lines = [("whole answer", "one", summary.answered_within)]
    if begun is not None and begun.n >= TOO_FEW:
        lines.append(("first token", "two", summary.begun_within))
    drawing = Drawing(212)
    draw_legend(drawing, [(name, colour) for name, colour, _ in lines])
    scale, marks = _axis([value for _, _, values in lines for value in (values[0], values[99])], 8)
    _share_grid(drawing)
    _tick_texts(drawing, scale, marks, 206)
    for _, colour, values in lines:
        drawing.line([(scale(value), _share_y(percent)) for percent, value in enumerate(values[:100])], colour, 2)
    _marked(drawing, scale, summary.answered_within)
    said = (
        f"Half of the queries were answered within {wording.seconds(latency.p50)}, 95 of 100 within "
        f"{wording.seconds(latency.p95)}, 99 of 100 within {wording.seconds(latency.p99)}"
    )
    if len(lines) > 1 and begun is not None:
        said += f"; the first token came within {wording.seconds(begun.p50)} for half of those that were streamed"
    note = f"Of {wording.queries(latency.n)} that ended well."
    return plot("latency-curve", "Answered within", f"{said}.", drawing, note)


def latency_by_route(summary: Summary) -> Plot | None:
    """Draw the percentiles of each route."""
    shown = [group for group in summary.routes if group.latency is not None][:_MOST]
    if not shown:
        return None
    known = [(group, group.latency) for group in shown if group.latency is not None]
    scale, marks = _axis([edge for _, latency in known for edge in _edges(latency)], 40)
    drawing = Drawing(STEP * len(known) + 16)
    for x in marks:
        drawing.line([(scale(x), 14), (scale(x), STEP * len(known) - 4)], "line", 0.8)
    for place, (group, latency) in enumerate(known):
        top = place * STEP
        told = f"p50 {wording.seconds(latency.p50)} · {_second(latency)}"
        drawing.text(0, top + 12, wording.shortened(route_name(group), WIDTH - wording.width(told) - 12))
        drawing.text(WIDTH, top + 12, told, anchor="right", bold=True)
        _percentile_bar(drawing, top + 23, [scale(edge) for edge in _edges(latency)])
    _tick_texts(drawing, scale, marks, STEP * len(known) + 10)
    note = _latency_note([latency.n for _, latency in known]) + not_all(len(known), summary)
    return plot("latency-by-route", "Latency, by route", _latency_sentence(known), drawing, note)


def _latency_note(counts: Sequence[int]) -> str:
    dot, more = "Dot: half of the queries.", " End of the bar: 95 of 100. End of the line: 99 of 100."
    few = f" Of fewer than {TOO_FEW} queries the dot alone." if min(counts) < TOO_FEW else ""
    return dot + (more if max(counts) >= TOO_FEW else "") + few


def _latency_sentence(known: Sequence[tuple[Group, Spread[float]]]) -> str:
    many = [each for each in known if each[1].n >= TOO_FEW]
    if not many:
        return _few_sentence(known)
    if len(many) == 1:
        group, latency = many[0]
        whose = f" to queries {by_route(group)}" if len(known) > 1 else ""
        return f"95 of 100 answers{whose} came within {wording.seconds(latency.p95)}."
    (slow, most), (fast, least) = (edge(many, key=lambda each: each[1].p95) for edge in (max, min))
    return (
        f"Slowest are queries {by_route(slow)}: 95 of 100 answers within {wording.seconds(most.p95)}, against "
        f"{wording.seconds(least.p95)} {by_route(fast)}."
    )


def _few_sentence(known: Sequence[tuple[Group, Spread[float]]]) -> str:
    """What can be said where no route has enough queries."""
    group, latency = max(known, key=lambda each: each[1].n)
    whose = f" {by_route(group)}" if len(known) > 1 else ""
    if latency.n == 1:
        return f"The one answer{whose} took {wording.seconds(latency.p50)}; that is too few to say more."
    half = f"Half of {wording.counted(latency.n, 'answer')}{whose} came within {wording.seconds(latency.p50)}"
    return f"{half}; that is too few to say more."


def _edges(latency: Spread[float]) -> tuple[float, ...]:
    """The percentiles that are shown: of few values the half alone."""
    return (latency.p50,) if latency.n < TOO_FEW else (latency.p50, latency.p95, latency.p99)


def _second(latency: Spread[float]) -> str:
    few = latency.n < TOO_FEW
    return f"of {wording.queries(latency.n)}" if few else f"p95 {wording.seconds(latency.p95)}"


def time_split(summary: Summary) -> Plot | None:
    """Draw how the latency divides into retrieval, language model and the rest."""
    shown = [(group, split) for group in summary.routes if (split := group.split) is not None][:_MOST]
    whole = summary.queries.split
    if not shown or whole is None:
        return None
    rows = [
        Stack(route_name(group), (split.retrieval, split.model, split.rest), wording.share(split.retrieval))
        for group, split in shown
    ]
    parts = wording.share(whole.retrieval), wording.share(whole.model)
    said = f"Retrieval takes {parts[0]} of the latency, the language model {parts[1]}"
    note = "At the right, retrieval: embedding, stores, merging, reranking; what ran side by side counts once."
    note += not_all(len(rows), summary)
    return plot("time-split", "What the latency is made of", f"{said}.", stacks(rows, _PARTS), note)


def waterfalls(summary: Summary) -> list[Plot]:
    """Draw the stages of each route's typical queries; at most four routes, the most used."""
    shown = [group for group in summary.routes if group.waterfall is not None][:_MOST_WATERFALLS]
    return [_waterfall(place, group, group.waterfall) for place, group in enumerate(shown) if group.waterfall]


def _waterfall(place: int, group: Group, found: Waterfall) -> Plot:
    idle = _is_idle(found)
    foot = 20.0 * (len(found.bars) + idle)
    drawing = Drawing(foot + 22)
    end = max(found.wall_s, *(bar.start_s + bar.length_s for bar in found.bars))
    left, right = 84.0, WIDTH - 54
    for row, bar in enumerate(found.bars):
        y, x = 20.0 * row, left + bar.start_s / end * (right - left)
        drawing.text(0, y + 12, wording.shortened(bar.name, left - 8, _SMALL), size=_SMALL)
        drawing.line([(left, y + 8.5), (right, y + 8.5)], "track", 1)
        drawing.bar(x, y + 3, max(1.5, bar.length_s / end * (right - left)), 11, _colour(bar))
        drawing.text(WIDTH, y + 12, wording.seconds(bar.length_s), size=_SMALL, anchor="right")
    if idle:
        drawing.text(0, foot - 8, "elsewhere", size=_SMALL, colour="dim")
        drawing.text(WIDTH, foot - 8, wording.seconds(found.elsewhere_s), size=_SMALL, colour="dim", anchor="right")
    if found.first_token_s is not None and found.first_token_s < end:
        x = left + found.first_token_s / end * (right - left)
        drawing.line([(x, 0), (x, foot + 4)], "ink", 1, (2, 2))
        _beside(drawing, x, foot + 14, f"first token {wording.seconds(found.first_token_s)}", left)
    title = f"A query {by_route(group)}, stage by stage"
    return plot(f"waterfall-{place + 1}", title, _waterfall_sentence(found), drawing, _waterfall_note(found))


def _waterfall_note(found: Waterfall) -> str:
    note = f"Means of the {wording.queries(found.n)} around the median." if found.n > 1 else "The query in the middle."
    if found.first_token_s is not None and found.streamed < found.n:
        note += f" First token: of the {found.streamed:,} that were streamed."
    return f"{note} elsewhere: in no stage, at least." if _is_idle(found) else note


def _is_idle(found: Waterfall) -> bool:
    """Whether the time that no stage accounts for is worth a word."""
    return found.elsewhere_s > _IDLE * found.wall_s


def _waterfall_sentence(found: Waterfall) -> str:
    said = f"A typical query takes {wording.seconds(found.wall_s)}"
    asked = next((bar for bar in found.bars if bar.name == "llm"), None)
    if asked is None:
        longest = max(found.bars, key=lambda bar: bar.length_s)
        said += f"; the longest stage is {wording.said(longest.name)}, with {wording.seconds(longest.length_s)}"
    else:
        before, writing = wording.seconds(asked.start_s), wording.seconds(asked.length_s)
        said += f": {before} until the language model is asked, {writing} of its answer"
    return f"{said}; {wording.seconds(found.elsewhere_s)} pass in no stage." if _is_idle(found) else f"{said}."


def _colour(bar: Bar) -> str:
    return "two" if bar.name in MODEL else "five" if bar.name in NOT_RETRIEVAL else "one"


def _axis(values: Sequence[float], wide: float) -> tuple[Scale, list[float]]:
    """A scale for seconds and its round values; from 0, or logarithmic where they lie `wide` times apart."""
    low, high = max(min(values), 1e-6), max(*values, 1e-6)
    if high / low > wide:
        low, high = low * 0.9, high * 1.1
        across = math.log(high / low)
        return (lambda value: WIDTH * math.log(max(value, low) / low) / across), _rounds(low, high)
    high *= 1.04
    return (lambda value: WIDTH * value / high), ticks(high) if high <= 100 else _minutes(high)


def _rounds(low: float, high: float) -> list[float]:
    """Round times between two, or fewer where they are many."""
    fine, coarse = ([value for value in values if low <= value <= high] for values in (_ROUND, _ROUNDER))
    return fine if len(fine) <= 6 else coarse


def _minutes(high: float) -> list[float]:
    step = next((step for step in _STEPS if step * 4 >= high), _STEPS[-1])
    return [step * place for place in range(int(high / step) + 1)]


def _tick_texts(drawing: Drawing, scale: Scale, marks: Sequence[float], y: float) -> None:
    """Write the values of an axis, as many as have room."""
    upto = float("-inf")
    for value in marks:
        told = wording.round_seconds(value)
        half = wording.width(told, 10) / 2
        middle = min(max(scale(value), half), WIDTH - half)
        if middle - half > upto:
            drawing.text(middle, y, told, size=10, colour="dim", anchor="center")
            upto = middle + half + 6


def _share_y(percent: float) -> float:
    return 190 - percent * 1.55


def _share_grid(drawing: Drawing) -> None:
    for percent in (0, 50, 100):
        drawing.line([(0, _share_y(percent)), (WIDTH, _share_y(percent))], "line", 0.8)
        if percent:
            drawing.text(
                WIDTH, _share_y(percent) - 3, wording.share(percent / 100), size=10, colour="dim", anchor="right"
            )


def _marked(drawing: Drawing, scale: Scale, values: Sequence[float]) -> None:
    """Dots at half and at 95 of 100, with what they stand at; to the right of the curve, where it leaves room."""
    for percent in (50, 95):
        x, y, told = scale(values[percent]), _share_y(percent), wording.seconds(values[percent])
        drawing.dot(x, y, 3.5, "one")
        fits = x + 8 + wording.width(told) < WIDTH
        drawing.text(
            x + 8 if fits else x, y + (12 if fits else 18), told, anchor="left" if fits else "right", bold=True
        )


def _percentile_bar(drawing: Drawing, y: float, edges: Sequence[float]) -> None:
    """A dot at the first, a bar to the second and a line to the third, as far as there are such."""
    if len(edges) > 1:
        p50, p95, p99 = edges
        drawing.line([(p95, y), (max(p99, p95 + 0.5), y)], "one", 1.4)
        drawing.bar(p50, y - 4.5, max(p95 - p50, 1), 9, "one", 0.4)
    drawing.dot(edges[0], y, 4.5, "one")


def _beside(drawing: Drawing, x: float, y: float, told: str, left: float) -> None:
    """Write under a line, to its right while there is room."""
    fits = x + wording.width(told, _SMALL) < WIDTH
    drawing.text(x if fits else max(x, left), y, told, size=_SMALL, colour="dim", anchor="left" if fits else "right")

"""An adapter's way into memory, with one and with many loaded: ours and PEFT's, each in a process of its own."""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path

from _lora_arms import Ours
from _lora_models import load
from _lora_setting import Setting, judged

LOAD_MS, LOAD_GROWTH = 20.0, 1.2


def our_loading(setting: Setting, dtype: str) -> None:
    """Measure an adapter's way into memory, with one and with all loaded; in a fresh process, for memory's sake."""
    names = list(setting.adapters)
    ours = Ours(*load(setting.base, dtype, setting.device), setting.tokens, setting.adapters, len(names))
    ours.one("w1 w2")  # what comes with the first answer is no adapter's
    before = _resident()
    times = [setting.spent(lambda name=name: ours.llm.pin(name))[1] for name in names]
    grown = _grown(before, len(names))
    few, many = (statistics.median(_reload(setting, ours, names, count)) for count in (1, len(names) - 1))
    say = partial(setting.say, dtype)
    say("ours, first load, checked and probed", ms=_ms(statistics.median(times[1:])))
    say("ours, load with 1 loaded", ms=_ms(few), **judged(1e3 * few, LOAD_MS))
    say(
        f"ours, load with {len(names) - 1} loaded",
        ms=_ms(many),
        ratio=round(many / few, 2),
        **judged(many / few, LOAD_GROWTH),
    )
    slot = ours.llm.stats().adapter_bytes / len(names)
    say("ours, memory of an adapter", resident_mb=grown, tensors_mb=_mb(slot))


def _reload(setting: Setting, ours: Ours, names: list[str], count: int) -> list[float]:
    """Seconds of loading an adapter that was checked before, beside so many others; nine times."""
    engine = ours.llm.engine()
    residents = engine.residents

    def evict(name: str) -> None:
        weights = ours.adapters.get(name).weights_sha256
        engine.call(lambda: residents.evict(weights)).result()

    def hold(name: str) -> None:
        version = ours.adapters.get(name)
        engine.call(lambda: residents.hold(version, False)).result()

    for name in names:
        (hold if name in names[: count + 1] else evict)(name)
    times = []
    for place in range(9):
        name = names[place % (count + 1)]
        evict(name)
        times.append(setting.spent(lambda name=name: hold(name))[1])
    return times


def peft_loading(setting: Setting, dtype: str) -> None:
    """Measure PEFT's load_adapter likewise."""
    from peft import PeftModel

    (name, folder), *rest = setting.adapters.items()
    base, _ = load(setting.base, dtype, setting.device)
    model = PeftModel.from_pretrained(base, str(folder), adapter_name=name)
    before = _resident()
    times = [setting.spent(lambda n=n, folder=folder: model.load_adapter(str(folder), n))[1] for n, folder in rest]
    grown = _grown(before, len(rest))
    few, many = statistics.median(times[:3]), statistics.median(times[-3:])
    setting.say(dtype, "PEFT, load with 1 loaded", ms=_ms(few))
    setting.say(dtype, f"PEFT, load with {len(rest)} loaded", ms=_ms(many), ratio=round(many / few, 2))
    tensors = sum(weights.nbytes for name, weights in model.named_parameters() if "lora_" in name)
    setting.say(dtype, "PEFT, memory of an adapter", resident_mb=grown, tensors_mb=_mb(tensors / len(setting.adapters)))


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 1)


def _mb(size: float) -> float:
    return round(size / 1e6, 1)


def _grown(before: int | None, adapters: int) -> float | None:
    """Megabytes of resident memory that each of so many adapters added."""
    after = _resident()
    return None if before is None or after is None else _mb((after - before) / adapters)


def _resident() -> int | None:
    """Bytes of anonymous memory that the process holds; None where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return 1024 * int(lines["RssAnon"].split()[0]) if "RssAnon" in lines else None

"""What a machine says of an order, as progress: of an answer nothing is believed that cannot be, and nothing is lost."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from batchone.factory.drivers.driver import LayerSeen, Progress, Reading

OVER: Final = ("Ended", "Aborted")
BEGUN: Final = ("Running", "Interrupted")
_LAYERED: Final = ("recoating", "exposing", "paused")  # states of a machine in which it is in a layer
_SUCCESSFUL: Final = 1  # JobResult of OPC 40001-3
_ALARM: Final = re.compile(r"([0-9]{1,9}): (.+)", re.DOTALL)
_MOST_CHARACTERS: Final = 200  # project default: of an alarm


@dataclass(frozen=True, slots=True)
class OrderSeen:
    """An order as the machine tells of it: its state, what its response says, and what the machine measures; not yet believed."""

    state: str
    said: Mapping[str, Any]
    values: Mapping[str, Any]


class Followed:
    """An order, as far as it was told.

    Parameters
    ----------
    layers
        Of its build: a machine that tells of more is not believed.
    """

    def __init__(self, layers: int) -> None:
        self._layers, self._done = layers, 0
        self._told: set[tuple[int | None, str]] = set()  # alarms, by the layer that the machine names
        self._last = Progress("running", 0.0)

    @property
    def ended(self) -> bool:
        """Whether the last word was told."""
        return self._last.state != "running"

    def waiting(self) -> Progress:
        """There is no answer."""
        return Progress("running", self._last.seconds, energy_kwh=self._last.energy_kwh)

    def progress(self, seen: OrderSeen | None, *, gap: bool = False) -> Progress:
        """What an answer says beyond those before.

        Parameters
        ----------
        seen
            None: the machine does not know the order.
        gap
            For a while before there was no answer.
        """
        before = self._last
        if seen is None:
            reason = "the machine does not know the order any more"
            self._last = Progress("failed", before.seconds, energy_kwh=before.energy_kwh, reason=reason)
            return self._last
        values = {name: float(value) for name, value in seen.values.items() if _is_number(value)}
        seconds = _at_least_0(seen.said.get("elapsed_s"), before.seconds)
        energy_kwh = _at_least_0(values.get("energy_kwh"), before.energy_kwh)
        old, self._done = self._done, max(self._done, int(min(_at_least_0(seen.said.get("layers_done"), 0.0), self._layers)))
        alarms, texts = self._new_alarms(seen.said.get("alarms"))
        joule = 3.6e6 * max(0.0, energy_kwh - before.energy_kwh) / max(1, self._done - old)
        made = range(old, self._done)
        layers = tuple(
            LayerSeen(n, seconds, joule if n in made else 0.0, tuple(alarms.get(n, ()))) for n in sorted({*made, *alarms})
        )
        told = seen.said.get("state")
        state = told[:_MOST_CHARACTERS] if isinstance(told, str) else ""
        reading = Reading(seconds, state, self._done if state in _LAYERED else -1, values)
        readings = (reading,) if seen.state in BEGUN and seconds > before.seconds else ()
        result = seen.said.get("JobResult")
        good = seen.state == "Ended" and _is_number(result) and result == _SUCCESSFUL
        if seen.state not in OVER:
            self._last = Progress("running", seconds, layers, readings, energy_kwh, gap=gap)
        elif good:
            self._last = Progress("done", seconds, layers, readings, energy_kwh, gap=gap)
        else:
            reason = "; ".join((f"the order is {seen.state}, JobResult {result}", *texts))
            self._last = Progress("failed", seconds, layers, readings, energy_kwh, reason, gap)
        return self._last

    def _new_alarms(self, told: Any) -> tuple[dict[int, list[str]], list[str]]:
        """Alarms that were not told before, by layer, and the texts of all; one without a layer is of that under way."""
        given = told if isinstance(told, list | tuple) else [told]
        texts = [one[:_MOST_CHARACTERS] for one in given if isinstance(one, str) and one.strip()]
        found: dict[int, list[str]] = {}
        for text in texts:
            match = _ALARM.fullmatch(text)
            named = int(match[1]) if match is not None and int(match[1]) < self._layers else None
            names = match[2] if match is not None and named is not None else text
            for name in filter(None, map(str.strip, names.split(","))):
                if (named, name) not in self._told:
                    self._told.add((named, name))
                    found.setdefault(named if named is not None else min(self._done, self._layers - 1), []).append(name)
        return found, texts


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _at_least_0(value: Any, otherwise: float) -> float:
    return float(value) if _is_number(value) and value >= 0.0 else otherwise

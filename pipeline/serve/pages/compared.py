"""Findings of two devices beside each other: which one of the one stands against which one of the other."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchone.pipeline.findings import Finding

_NUMBER = re.compile(
    r"(?<![\w.-])[-+]?\d+(?:\.\d+)?(?!\w)"
)  # measured or counted; one that belongs to a name, as in t9-left, stays
_ASIDES = re.compile(r'\([^()]*\d[^()]*\)|"[^"]*"')  # shares and measured numbers in brackets; engraved text
_SAME_TO = 6  # decimals; as findings are rounded


@dataclass(frozen=True, slots=True)
class Pair:
    """A finding of the first device and its fellow of the second; None where one of the two has none."""

    first: Finding | None
    second: Finding | None

    @property
    def shown(self) -> Finding:
        """The one whose words are shown: the newer one."""
        found = self.second or self.first
        assert found is not None
        return found

    @property
    def change(self) -> float | None:
        """Value of the second less that of the first, in their unit; None where they cannot be subtracted."""
        if self.first is None or self.second is None or self.first.unit != self.second.unit:
            return None
        return round(self.second.value - self.first.value, _SAME_TO) + 0.0

    @property
    def differs(self) -> bool:
        """Whether value, unit, limit or verdict is another one."""
        if self.first is None or self.second is None:
            return True
        return self.change != 0.0 or any(getattr(self.first, name) != getattr(self.second, name) for name in ("limit", "verdict"))


def paired(first: Sequence[Finding], second: Sequence[Finding]) -> tuple[Pair, ...]:
    """All findings of both devices, each once, in the order of the first and then what the second has alone.

    Words may hold measured numbers. So those with the same words come together first, then those with the same words but for what
    stands in brackets or quotes, then but for numbers, then those about the same thing whose first words are the same (the side
    that holds least comes after them); several of the same words by their order.
    """
    fellow: dict[int, int] = {}
    for key in (str, _without_asides, _without_numbers, _first_words):
        _match(first, second, key, fellow)
    taken = set(fellow.values())
    pairs = [Pair(one, second[fellow[n]] if n in fellow else None) for n, one in enumerate(first)]
    return (*pairs, *(Pair(None, one) for n, one in enumerate(second) if n not in taken))


def _match(first: Sequence[Finding], second: Sequence[Finding], key: Callable[[str], str], fellow: dict[int, int]) -> None:
    """Add to ``fellow`` (indices of the first to those of the second) what has none yet and the same check and key."""
    waiting: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    taken = set(fellow.values())
    for n, one in enumerate(second):
        if n not in taken:
            waiting[one.check, key(one.what)].append(n)
    for n, one in enumerate(first):
        if n not in fellow and waiting[one.check, key(one.what)]:
            fellow[n] = waiting[one.check, key(one.what)].pop(0)


def _without_asides(what: str) -> str:
    return " ".join(_ASIDES.sub("", what).split())


def _without_numbers(what: str) -> str:
    return _NUMBER.sub("", _without_asides(what))


def _first_words(what: str) -> str:
    about, _, measured = _without_numbers(what).partition(":")
    return f"{about}:{re.split('[,;:]', measured)[0]}"

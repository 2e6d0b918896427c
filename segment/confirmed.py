"""Levels that a person has named: the count of a spine's vertebrae becomes their numbers.

One vertebra named gives all others their number, for they follow each other; two names that do not fit together are refused.
"""

from __future__ import annotations

from dataclasses import replace

from batchone.pipeline.errors import OrderError
from batchone.pipeline.labels import COUNTED, is_vertebra
from batchone.pipeline.order import Target
from batchone.pipeline.values import Label

LEVELS = (*(f"c{n}" for n in range(1, 8)), *(f"t{n}" for n in range(1, 13)), *(f"l{n}" for n in range(1, 6)))
_HINT = "compare the numbered picture (segment/levels.png) with the patient's records"


def confirmed(labels: tuple[Label, ...], target: Target) -> tuple[Label, ...]:
    """The labels, their vertebrae and ribs renamed after ``target.levels`` ("vertebra-4" -> "T9").

    Raises
    ------
    OrderError
        A name that is no vertebra of the scan, no level, or does not fit to another one.
    """
    if not target.levels:
        return labels
    spine = sorted((label for label in labels if is_vertebra(label.name)), key=lambda label: _place(label.name))
    counted = {label.name: k for k, label in enumerate(spine)}
    shifts: dict[int, str] = {}
    for text, level in target.levels.items():
        name, number = text.strip().lower(), level.strip().lower()
        said = f"[target] levels: {name} = {number}"
        if name not in counted:
            known = ", ".join(counted) or "none"
            raise OrderError(f"{said}: {name} is no vertebra of this scan; those are {known}", hint=_HINT)
        if number not in LEVELS:
            raise OrderError(f"{said}: {level} is no level, must be one of C1 to C7, T1 to T12, L1 to L5", hint=_HINT)
        shifts.setdefault(LEVELS.index(number) - counted[name], said)
    if len(shifts) > 1:
        raise OrderError(f"{' and '.join(shifts.values())} do not agree: vertebrae follow each other", hint=_HINT)
    shift, said = next(iter(shifts.items()))
    if shift < 0 or shift + len(spine) > len(LEVELS):
        raise OrderError(f"{said}: with {len(spine)} vertebrae in the scan the spine would go beyond C1 or L5", hint=_HINT)
    names = {label.value: LEVELS[shift + k] for k, label in enumerate(spine)}
    moved = {label.name: names[label.value] for label in spine}
    return tuple(
        _renamed(label, names, moved, f"named by {target.level_confirmed_by}: {said.split(': ')[1]}") for label in labels
    )


def _place(name: str) -> int:
    return int(name.removeprefix(COUNTED)) if name.startswith(COUNTED) else LEVELS.index(name) if name in LEVELS else len(LEVELS)


def _renamed(label: Label, names: dict[int, str], moved: dict[str, str], said: str) -> Label:
    if label.value in names:
        return replace(label, name=names[label.value], numbering="certain", evidence=f"{said}; {label.evidence}")
    if label.name.startswith("rib-"):
        vertebra = moved.get(f"t{label.name.removeprefix('rib-')}", "")
        number = vertebra.removeprefix("t")
        name = f"rib-{number}" if vertebra.startswith("t") else "rib"
        return replace(label, name=name, numbering="certain", evidence=f"{said}; {label.evidence}")
    return label

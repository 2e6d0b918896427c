"""Faults of a machine: what each does, and which ones happen by chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

import numpy as np

from batchone.pipeline.errors import MachineError
from batchone.pipeline.process import Process

FaultKind = Literal["short-feed", "recoater-streak", "super-elevation", "spatter", "oxygen-rise", "power-sag", "power-cut"]
KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)

# at a severity of 1, all unverified: project defaults
_BARE_SHARE: Final = 0.6  # of the bed that gets no powder
_STREAK_MM: Final = 3.0  # width of a furrow
_RAISED_UM: Final = 200.0  # of edges above the powder
_SPATTERS: Final = 400.0  # particles on the bed
_SAG_SHARE: Final = 0.5  # of the laser's power

# per layer, unverified: project defaults
RATES: Final[Mapping[FaultKind, float]] = MappingProxyType(
    {
        "short-feed": 2e-4,
        "recoater-streak": 2e-4,
        "super-elevation": 2e-4,
        "spatter": 5e-4,
        "oxygen-rise": 1e-4,
        "power-sag": 1e-4,
        "power-cut": 5e-6,
    }
)
_LASTS: Final = 5  # project default: layers that a fault by chance lasts at most


@dataclass(frozen=True, slots=True)
class Fault:
    """Something goes wrong from a layer on.

    Attributes
    ----------
    kind
        What.
    layer
        The first layer that it is in, from 0.
    layers
        How many; a cut of power ends the build in its first.
    severity
        Above 0 and up to 1.

    Raises
    ------
    ValueError
        A number that cannot be.
    """

    kind: FaultKind
    layer: int
    layers: int = 1
    severity: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.layer < 0 or self.layers < 1 or not 0.0 < self.severity <= 1.0:
            raise ValueError(f"{self} is no fault: kind of {', '.join(KINDS)}, layer >= 0, layers >= 1, 0 < severity <= 1")

    @property
    def bare_share(self) -> float:
        """Of the bed, at the end of the blade's way, that gets no powder."""
        return _BARE_SHARE * self.severity if self.kind == "short-feed" else 0.0

    @property
    def streak_mm(self) -> float:
        """Width of the furrow that the blade leaves along its way."""
        return _STREAK_MM * self.severity if self.kind == "recoater-streak" else 0.0

    @property
    def raised_um(self) -> float:
        """Edges of parts stand so far above the powder."""
        return _RAISED_UM * self.severity if self.kind == "super-elevation" else 0.0

    @property
    def spatters(self) -> int:
        """Particles that lie on the bed."""
        return round(_SPATTERS * self.severity) if self.kind == "spatter" else 0

    @property
    def laser_share(self) -> float:
        """Of its power that the laser has."""
        return 1.0 - _SAG_SHARE * self.severity if self.kind == "power-sag" else 1.0

    def is_in(self, layer: int) -> bool:
        """Whether it lasts in a layer."""
        return self.layer <= layer < self.layer + self.layers


@dataclass(frozen=True, slots=True)
class Effects:
    """What all faults together do to a layer; the fields as those of a fault, ``leak`` the severity of an oxygen rise."""

    kinds: tuple[FaultKind, ...]
    cut: bool
    leak: float
    laser_share: float
    bare_share: float
    streak_mm: float
    raised_um: float
    spatters: int


def effects(faults: tuple[Fault, ...], layer: int) -> Effects:
    """Of all faults in a layer: of each effect the worst, of spatter all."""
    here = tuple(fault for fault in faults if fault.is_in(layer))
    return Effects(
        kinds=tuple(fault.kind for fault in here),
        cut=any(fault.kind == "power-cut" for fault in here),
        leak=max((fault.severity for fault in here if fault.kind == "oxygen-rise"), default=0.0),
        laser_share=min((fault.laser_share for fault in here), default=1.0),
        bare_share=max((fault.bare_share for fault in here), default=0.0),
        streak_mm=max((fault.streak_mm for fault in here), default=0.0),
        raised_um=max((fault.raised_um for fault in here), default=0.0),
        spatters=sum(fault.spatters for fault in here),
    )


def kinds_of(process: Process) -> tuple[FaultKind, ...]:
    """What may go wrong in a process: no powder in resin, no leak where there is air."""
    none: set[FaultKind] = set() if process.conditions.oxygen_percent is not None else {"oxygen-rise"}
    if process.kind == "vat":
        none |= {"short-feed", "recoater-streak", "super-elevation", "spatter"}
    return tuple(kind for kind in KINDS if kind not in none)


def random_faults(layers: int, process: Process, *, seed: int, rates: Mapping[FaultKind, float] = RATES) -> tuple[Fault, ...]:
    """Faults that happen by chance in a build of so many layers: each kind by its rate per layer, by layer, then by kind."""
    chance = np.random.default_rng([seed, layers])
    found = []
    for kind in kinds_of(process):
        for layer in np.flatnonzero(chance.random(layers) < rates.get(kind, 0.0)).tolist():
            lasts = 1 if kind == "power-cut" else int(chance.integers(1, _LASTS + 1))
            found.append(Fault(kind, layer, lasts, round(float(chance.uniform(0.1, 1.0)), 3)))
    return tuple(sorted(found, key=lambda fault: (fault.layer, KINDS.index(fault.kind))))


def refuse_impossible(faults: tuple[Fault, ...], process: Process, layers: int) -> None:
    """Refuse faults that would never happen.

    Raises
    ------
    MachineError
        One begins after the last layer, or is none of the process.
    """
    for fault in faults:
        if fault.kind not in kinds_of(process):
            raise MachineError(
                f"{fault.kind} does not happen in {process.name}", hint=f"name one of {', '.join(kinds_of(process))}"
            )
        if fault.layer >= layers:
            raise MachineError(f"{fault.kind} in layer {fault.layer}, the last one is {layers - 1}", hint="name an earlier layer")

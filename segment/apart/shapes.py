"""Names from shape and place where no spine tells: a hollow skull with vault and mandible, and the bones round knee and ankle.

A shape says less than a neighbour, so the confidence is low and the evidence says what was measured; what fits nothing stays
``bone``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from batchone.pipeline.values import FloatArray, Side
from batchone.segment.apart.draft import Draft
from batchone.segment.apart.grid import WorkVolume
from batchone.segment.apart.table import (
    HOLLOW_DIRECTIONS,
    HOLLOW_RADIUS_MM,
    LIMB_NEAR_MM,
    LONG_RATIO,
    MANDIBLE_WIDE_MM,
    PATELLA_MM3,
    SLENDER_SHARE,
    VAULT_OVER_MM,
)


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A label's value, some of its places (n, 3) mm, its volume, its length and the mean section across it."""

    value: int
    places_mm: FloatArray
    volume_mm3: float
    length_mm: float

    @property
    def section_mm2(self) -> float:
        return self.volume_mm3 / max(self.length_mm, 1.0)

    @property
    def long(self) -> bool:
        return self.length_mm > LONG_RATIO * float(np.sqrt(self.section_mm2))


def name_by_shape(draft: Draft, volume: WorkVolume, values: list[int]) -> None:
    """Name the labels ``values`` in place as far as shape and neighbours say."""
    pieces = [_measured(draft, volume, value) for value in values]
    if not pieces:
        return
    if not _name_head(draft, pieces):
        _name_leg(draft, pieces)


def _measured(draft: Draft, volume: WorkVolume, value: int) -> _Piece:
    places = (np.argwhere(draft.labels == value) * volume.step_mm).astype(np.float64)
    size = len(places) * volume.step_mm**3
    some = places[:: max(1, len(places) // 3000)]
    axes = np.linalg.svd(some - some.mean(axis=0), full_matrices=False)[2]
    return _Piece(value, some, size, float(np.ptp(some @ axes[0])))


def _name_head(draft: Draft, pieces: list[_Piece]) -> bool:
    """Skull, vault and mandible, when the bones together enclose a hollow; whether they do."""
    every = np.concatenate([piece.places_mm for piece in pieces])
    middle = 0.5 * (every.min(axis=0) + every.max(axis=0))
    offset = every - middle
    distance = np.linalg.norm(offset, axis=1)
    near = distance < HOLLOW_RADIUS_MM[1]
    around = np.unique(_sector(offset[near & (distance > HOLLOW_RADIUS_MM[0])]))
    if len(around) < HOLLOW_DIRECTIONS * 26 or (distance < HOLLOW_RADIUS_MM[0]).mean() > 0.05:
        return False
    skull = pieces[0]
    _set(draft, skull, "skull", "midline", 0.8, "the largest bone round a hollow")
    base = skull.places_mm[:, 0].mean()
    for piece in pieces[1:]:
        height, low = piece.places_mm[:, 0].mean(), np.ptp(piece.places_mm[:, 2])
        if height > base + VAULT_OVER_MM:
            _set(draft, piece, "skull-vault", "midline", 0.6, "over the skull, apart by a gap all round (saw cut or fracture)")
        elif height < base - VAULT_OVER_MM and low > MANDIBLE_WIDE_MM and piece.places_mm[:, 1].mean() < middle[1]:
            _set(draft, piece, "mandible", "midline", 0.6, "below and in front of the skull, as wide as it")
    return True


def _sector(offset: FloatArray) -> FloatArray:
    """One of 26 directions for each offset."""
    unit = np.rint(offset / np.abs(offset).max(axis=1, keepdims=True))
    return np.asarray(9 * unit[:, 0] + 3 * unit[:, 1] + unit[:, 2])


def _name_leg(draft: Draft, pieces: list[_Piece]) -> None:
    """Tibia with its fibula; talus and calcaneus below, patella in front above. The fibula lies outside: it tells the side."""
    long_ones = sorted((piece for piece in pieces if piece.long), key=lambda piece: -piece.section_mm2)
    for tibia in long_ones:
        slender = [p for p in long_ones if p.section_mm2 < SLENDER_SHARE * tibia.section_mm2 and _gap(p, tibia) < LIMB_NEAR_MM]
        if not slender:
            continue
        fibula = slender[0]
        side: Side = "left" if fibula.places_mm[:, 2].mean() > tibia.places_mm[:, 2].mean() else "right"
        beside = "a slender bone runs along it, outwards on this side"
        _set(draft, tibia, "tibia", side, 0.6, beside)
        _set(draft, fibula, "fibula", side, 0.6, "slender, along a tibia")
        _name_ends(draft, pieces, tibia, side)


def _name_ends(draft: Draft, pieces: list[_Piece], tibia: _Piece, side: Side) -> None:
    low, high = tibia.places_mm[:, 0].min(), tibia.places_mm[:, 0].max()
    open_ones = [p for p in pieces if draft.entries[p.value - 1].name == "bone"]
    below = sorted((p for p in open_ones if p.places_mm[:, 0].mean() < low + LIMB_NEAR_MM), key=lambda p: _gap(p, tibia))
    if below and _gap(below[0], tibia) < LIMB_NEAR_MM:
        talus = below[0]
        _set(draft, talus, "talus", side, 0.5, "next below a tibia")
        lower = [
            p for p in below[1:] if _gap(p, talus) < LIMB_NEAR_MM and p.places_mm[:, 0].mean() < talus.places_mm[:, 0].mean()
        ]
        if lower:
            _set(draft, max(lower, key=lambda p: p.volume_mm3), "calcaneus", side, 0.5, "the largest below a talus")
    for piece in open_ones:
        over = piece.places_mm[:, 0].mean() > high - LIMB_NEAR_MM
        ahead = piece.places_mm[:, 1].mean() < tibia.places_mm[:, 1].mean() - LIMB_NEAR_MM
        if over and ahead and piece.volume_mm3 < PATELLA_MM3:
            _set(draft, piece, "patella", side, 0.5, "small, in front of a tibia's upper end")


def _gap(one: _Piece, two: _Piece) -> float:
    return float(cKDTree(one.places_mm).query(two.places_mm)[0].min())


def _set(draft: Draft, piece: _Piece, name: str, side: Side, confidence: float, evidence: str) -> None:
    entry = draft.entries[piece.value - 1]
    entry.name, entry.side, entry.confidence, entry.evidence = name, side, confidence, evidence

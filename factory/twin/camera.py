"""Pictures of the bed, after the blade and after the laser, rendered from the contours as written, with a mask of the truth.

A picture is the bed from above, straightened: columns run along x, the first row is the farthest along y; never mirrored. It is
lit by one lamp beside the bed, as machines are, so that relief shows: grey = lamp x reflectance x (1 + slope towards the lamp).

==================  ===========================================================================================================
powder              grains of its size, and long waves that the blade leaves; what lies below shows faintly, since powder sinks
molten              lines in the direction of the layer's hatches, brighter across the lamp than along it, seams of stripes, a rim
short feed          no powder beyond a ragged edge across the blade's way: the layer below is seen there, a step lower
furrow              a groove with two ridges along the blade's way, from where a grain caught it on
raised edges        rims of parts that stand above the powder, bright on the side of the lamp
spatter             particles on the bed after the laser, brighter or darker than it, most of them near what was molten
sag of power        molten metal that is dull and rough
cut of power        nothing is molten after the stroke at which it went
==================  ===========================================================================================================

The mask has 0 where the layer is as it should be, else 1 + the place of the fault in
:data:`batchone.factory.twin.faults.KINDS`; a rise of oxygen is not seen. Reflectances and reliefs are project defaults,
unverified: what finds faults on these pictures has to be proved on those of a machine.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from batchone.factory.twin.faults import KINDS, Fault
from batchone.factory.twin.machine import Twin
from batchone.pipeline.telemetry import Moment
from batchone.slicer.mask import shaded

SIDE_PX: Final = 1024

Grey = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]

# all unverified: project defaults
_LAMP_DEG: Final = 200.0  # from which the light comes, from the x axis
_SLOPE: Final = 0.004  # grey for each um per pixel of slope
_LAMP_FALL: Final = 0.35  # less light on the far side
_SENSOR: Final = 0.012  # noise of the camera
_GRAIN_UM, _WAVE_UM, _LINE_UM = 9.0, 6.0, 12.0  # standard deviations of relief: grains, waves, molten lines
_SUNK_UM: Final = 14.0  # powder over what is molten, and what is molten against the powder
_FURROW_UM: Final = 70.0
_BARE_UM, _BARE_LIGHT = 60.0, 0.88  # the step to where no powder lies; light that comes there
_RAGGED: Final = 0.008  # deviation of the edge of powder, of the bed
_GHOST: Final = 0.03  # darker powder over what is molten
_PATCHES, _GRAINS = 0.007, 0.035  # deviation of reflectance
_LINES, _EDGE_LIGHT, _SEAM = 0.05, 0.06, 0.08  # molten lines, the border of what is molten, seams of stripes
_ROUGH, _DULL = 3.0, 0.5  # for each share of power that the laser lacks
_FURROW_DARK, _RIM_LIGHT, _SPATTER_LIGHT = 0.06, 0.2, 0.25
_NEAR_SHARE, _FLIES_PX, _BALL_UM = 0.7, 40.0, 25.0  # of particles; how far they fly, and how high they lie for each pixel
_RIM_PX: Final = 2
_HALF: Final = 0.5  # numerical: of a pixel that is covered: it counts as covered
_LONG, _ACROSS = 0.06, 0.7  # pixels of the noise for a pixel along and across molten lines
_LOOKS: Final = {"lpbf": (0.47, 0.62, 0.22), "sls": (0.80, 0.52, 0.03)}  # reflectance of powder, of molten; sheen across the lamp


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One picture of a layer.

    Attributes
    ----------
    layer
        From 0.
    moment
        After the blade (``powder``) or after the laser (``exposure``).
    grey, truth
        (1024, 1024) uint8 each: what the camera sees; 0, or 1 + the place of the fault in ``KINDS``.
    """

    layer: int
    moment: Moment
    grey: Grey
    truth: Grey

    def png(self) -> bytes:
        """What the camera sees."""
        return _png(self.grey)

    def small_png(self) -> bytes:
        """What the camera sees, (512, 512): the mean of four pixels each."""
        low, half = self.grey.astype(np.uint16), SIDE_PX // 2
        return _png(((low.reshape(half, 2, half, 2).sum(axis=(1, 3)) + 2) // 4).astype(np.uint8))

    def truth_png(self) -> bytes:
        """The mask."""
        return _png(self.truth)


@dataclass(slots=True, eq=False)
class _Bed:
    """Relief, um, reflectance and truth, (1024, 1024) each; changed in place while a layer is made."""

    height: Field
    bright: Field
    truth: Grey


class Camera:
    """The camera of a machine.

    Parameters
    ----------
    twin
        The build that it looks at. Where no powder is spread there is no camera: ``pictures`` gives none.
    """

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.mm_per_px = max(twin.machine.envelope_mm[:2]) / SIDE_PX
        centre_mm = (np.arange(SIDE_PX, dtype=np.float32) + 0.5) * self.mm_per_px
        self.x_mm: Field = np.broadcast_to(centre_mm, (SIDE_PX, SIDE_PX)).astype(np.float32)
        self.y_mm: Field = np.ascontiguousarray(self.x_mm.T[::-1])

    def pictures(self, layer: int) -> tuple[Picture, ...]:
        """After the blade and after the laser; of a layer in which power was cut too.

        Raises
        ------
        IndexError
            The layer was not built.
        """
        self.twin.built[layer]
        if self.twin.process.kind not in _LOOKS:
            return ()
        bed = self._spread(layer)
        powder = Picture(layer, "powder", self._seen(bed, layer, 0), bed.truth.copy())
        self._expose(layer, bed)
        return powder, Picture(layer, "exposure", self._seen(bed, layer, 1), bed.truth)

    def _spread(self, layer: int) -> _Bed:
        """What the blade leaves."""
        height, bright = self._powder(layer)
        bed = _Bed(height, bright, np.zeros((SIDE_PX, SIDE_PX), np.uint8))
        below = self._cover(layer - 1) if layer > 0 else np.zeros((SIDE_PX, SIDE_PX), np.float32)
        bed.height -= _SUNK_UM * below
        bed.bright -= _GHOST * below
        for fault in self._faults(layer):
            if fault.kind == "short-feed":
                self._leave_bare(fault, layer, below, bed)
            elif fault.kind == "recoater-streak":
                self._furrow(fault, bed)
            elif fault.kind == "super-elevation":
                self._raise(fault, below, bed)
        return bed

    def _expose(self, layer: int, bed: _Bed) -> None:
        """What the laser makes of it."""
        cover, share = self._cover(layer), 1.0
        for fault in self._faults(layer):
            if fault.kind == "power-cut":
                whole, cover = cover, cover * self._drawn(layer)
                bed.truth[(whole > _HALF) & (cover < _HALF)] = _code(fault)
            elif fault.kind == "power-sag":
                bed.truth[cover > _HALF], share = _code(fault), min(share, fault.laser_share)
        self._melt(layer, cover, bed, share=share)
        for fault in self._faults(layer):
            if fault.kind == "super-elevation":
                self._raise(fault, cover, bed)
            elif fault.kind == "spatter":
                self._spatter(fault, layer, cover, bed)

    def _faults(self, layer: int) -> list[Fault]:
        return [fault for fault in self.twin.faults if fault.is_in(layer)]

    def _cover(self, layer: int) -> Field:
        """(1024, 1024) share of each pixel within the outlines."""
        outlines = self.twin.outlines
        low, high = np.searchsorted(outlines.loop_layer, (layer, layer + 1)).tolist()
        start = outlines.loop_start[low : high + 1]
        points = np.ascontiguousarray(outlines.points_mm[start[0] : start[-1]])
        top_mm = SIDE_PX * self.mm_per_px
        length, grey = shaded(points, start - start[0], 0.0, top_mm, self.mm_per_px, SIDE_PX, SIDE_PX)
        rows = np.repeat(grey, length).reshape(SIDE_PX, SIDE_PX + 1)  # one pixel more before each row
        return np.divide(rows[:, 1:], 255.0, dtype=np.float32)

    def _drawn(self, layer: int) -> Field:
        """Where the laser had been when power was cut: the lines up to that of as many strokes."""
        strokes = self.twin.built[layer].strokes
        contours = int(self.twin.strokes.count[layer]) - len(self.twin.file.hatches.of(layer))
        lines = self.twin.file.hatches.of(layer)[: max(0, strokes - contours)] / self.mm_per_px
        picture = Image.new("L", (SIDE_PX, SIDE_PX))
        pen = ImageDraw.Draw(picture)
        for x0, y0, x1, y1 in lines.tolist():
            pen.line((x0, SIDE_PX - y0, x1, SIDE_PX - y1), fill=1, width=2)
        drawn = ndimage.binary_dilation(np.asarray(picture) > 0, iterations=_RIM_PX)  # as far as what is molten beside a line
        return drawn.astype(np.float32)

    def _powder(self, layer: int) -> tuple[Field, Field]:
        """Relief, um, and reflectance of a bed of powder alone."""
        chance, noise = np.random.default_rng([self.twin.seed, layer, 0]), _noise(self.twin.seed)
        fine, coarse = (np.roll(field, chance.integers(SIDE_PX, size=2), axis=(0, 1)) for field in (noise.grains, noise.patches))
        waves = np.roll(noise.waves, int(chance.integers(SIDE_PX)), axis=0)
        bright = np.float32(_LOOKS[self.twin.process.kind][0]) + np.float32(_PATCHES) * coarse + np.float32(_GRAINS) * fine
        return _GRAIN_UM * fine + _WAVE_UM * (waves if self._blade_is_along_x else waves.T), bright

    def _leave_bare(self, fault: Fault, layer: int, below: Field, bed: _Bed) -> None:
        along, across = self._way
        ragged = ndimage.gaussian_filter1d(self._chance(fault, fault.layer).standard_normal(SIDE_PX), 9.0, mode="wrap")
        edge = 1.0 - fault.bare_share + (_RAGGED * ragged / ragged.std()).astype(np.float32)
        bare = along > edge[np.minimum((across * SIDE_PX).astype(np.int64), SIDE_PX - 1)]
        old = _Bed(*self._powder(layer - 1 if layer else self.twin.file.layers.count), bed.truth)
        if layer > 0:
            self._melt(layer - 1, below, old, share=1.0)
        bed.height[bare], bed.bright[bare] = old.height[bare] - _BARE_UM, _BARE_LIGHT * old.bright[bare]
        bed.truth[bare] = _code(fault)

    def _furrow(self, fault: Fault, bed: _Bed) -> None:
        along, across = self._way
        chance = self._chance(fault, fault.layer)
        at, begins = chance.uniform(0.15, 0.85), chance.uniform(0.0, 0.4)
        off = (across - np.float32(at)) * np.float32(2.0 * SIDE_PX * self.mm_per_px / fault.streak_mm)
        ridges = np.exp(-((np.abs(off) - np.float32(1.4)) ** 2) / np.float32(0.1))
        groove = (along > begins) * (np.exp(-(off**2)) - np.float32(0.55) * ridges)
        bed.height -= np.float32(_FURROW_UM) * groove
        bed.bright -= np.float32(_FURROW_DARK) * groove
        bed.truth[(along > begins) & (np.abs(off) < 1.0)] = _code(fault)

    def _raise(self, fault: Fault, cover: Field, bed: _Bed) -> None:
        place = _place(cover)
        rim = _rim(cover[place])
        bed.height[place] += np.float32(fault.raised_um) * rim
        bed.bright[place] += np.float32(_RIM_LIGHT) * rim
        bed.truth[place][rim > 0.0] = _code(fault)

    def _melt(self, layer: int, cover: Field, bed: _Bed, *, share: float) -> None:
        """Let the laser melt the bed: lines, seams and rims in place of powder."""
        place, scan = _place(cover), self.twin.process.scan
        _, molten, sheen = _LOOKS[self.twin.process.kind]
        cover, x_px, y_px = cover[place], self.x_mm[place] / self.mm_per_px, self.y_mm[place] / self.mm_per_px
        angle = np.radians((scan.first_deg + scan.turn_deg * layer) % 180.0) if scan is not None else 0.0
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        along, across = x_px * cos + y_px * sin, y_px * cos - x_px * sin
        at = (across * _ACROSS).astype(np.int64) % SIDE_PX, (along * _LONG + 37 * layer).astype(np.int64) % SIDE_PX
        lines, rough = _noise(self.twin.seed).grains[at], 1.0 + _ROUGH * (1.0 - share)
        shine = molten + sheen * float(np.sin(angle - np.radians(_LAMP_DEG)) ** 2) - _DULL * (1.0 - share)
        metal = np.float32(shine) + np.float32(_LINES * rough) * lines + np.float32(_EDGE_LIGHT) * _rim(cover)
        if scan is not None and scan.stripe_mm is not None:
            width_px = scan.stripe_mm / self.mm_per_px
            metal -= np.float32(_SEAM) * (along % np.float32(width_px) < 1.5)
        bed.height[place] *= 1.0 - cover
        bed.height[place] += cover * (np.float32(_LINE_UM * rough) * lines - np.float32(_SUNK_UM))
        bed.bright[place] += cover * (metal - bed.bright[place])

    def _spatter(self, fault: Fault, layer: int, cover: Field, bed: _Bed) -> None:
        chance, hot = self._chance(fault, layer), np.argwhere(cover > _HALF)
        for _ in range(fault.spatters):
            row, column = chance.uniform(4.0, SIDE_PX - 4.0, 2)
            if len(hot) and chance.random() < _NEAR_SHARE:
                row, column = np.clip(chance.normal(hot[chance.integers(len(hot))], _FLIES_PX), 4.0, SIDE_PX - 4.0)
            radius, lit = chance.uniform(0.7, 2.2), chance.choice([-_SPATTER_LIGHT, _SPATTER_LIGHT])
            rows, columns = np.ogrid[int(row) - 3 : int(row) + 4, int(column) - 3 : int(column) + 4]
            place = slice(int(row) - 3, int(row) + 4), slice(int(column) - 3, int(column) + 4)
            ball = np.sqrt(np.clip(radius**2 - (rows - row) ** 2 - (columns - column) ** 2, 0.0, None)).astype(np.float32)
            bed.height[place] += np.float32(_BALL_UM) * ball
            bed.bright[place] += np.float32(lit) * (ball > 0.0)
            bed.truth[place][ball > 0.0] = _code(fault)

    def _chance(self, fault: Fault, layer: int) -> np.random.Generator:
        return np.random.default_rng([self.twin.seed, layer, 2 + KINDS.index(fault.kind)])

    def _seen(self, bed: _Bed, layer: int, moment: int) -> Grey:
        """What the camera makes of relief and reflectance in the lamp's light."""
        towards, height = np.radians(_LAMP_DEG), bed.height
        slope = np.zeros_like(height)
        slope[:, 1:-1] -= np.float32(0.5 * _SLOPE * np.cos(towards)) * (height[:, 2:] - height[:, :-2])
        slope[1:-1] -= np.float32(0.5 * _SLOPE * np.sin(towards)) * (height[:-2] - height[2:])  # rows run against y
        seen = self._lamp * bed.bright * (1.0 + slope)
        shift = np.random.default_rng([self.twin.seed, layer, 1, moment]).integers(SIDE_PX, size=2)
        seen += np.float32(_SENSOR) * np.roll(_noise(self.twin.seed).sensor, shift, axis=(0, 1))
        return (255.0 * np.clip(seen, 0.0, 1.0) + 0.5).astype(np.uint8)

    @cached_property
    def _lamp(self) -> Field:
        towards = np.radians(_LAMP_DEG)
        far = (self.x_mm - self.x_mm.mean()) * np.cos(towards) + (self.y_mm - self.y_mm.mean()) * np.sin(towards)
        off = (self.x_mm - self.x_mm.mean()) ** 2 + (self.y_mm - self.y_mm.mean()) ** 2
        half = 0.5 * SIDE_PX * self.mm_per_px
        return (1.05 + 0.5 * _LAMP_FALL * far / half - 0.12 * off / half**2).astype(np.float32)

    @property
    def _blade_is_along_x(self) -> bool:
        return abs(np.cos(np.radians(self.twin.machine.recoater_deg or 0.0))) > np.sqrt(0.5)

    @cached_property
    def _way(self) -> tuple[Field, Field]:
        """Of each pixel, how far along the blade's way it lies and how far across, 0 to 1."""
        towards = np.radians(self.twin.machine.recoater_deg or 0.0)
        along = self.x_mm * np.float32(np.cos(towards)) + self.y_mm * np.float32(np.sin(towards))
        across = self.y_mm * np.float32(np.cos(towards)) - self.x_mm * np.float32(np.sin(towards))
        return tuple((of - of.min()) / (of.max() - of.min()) for of in (along, across))


@dataclass(frozen=True, slots=True, eq=False)
class _Noise:
    """Relief of grains, patches, the sensor, and waves along x: (1024, 1024) each, of deviation 1, no seam from edge to edge."""

    grains: Field
    patches: Field
    sensor: Field
    waves: Field


@lru_cache(maxsize=4)
def _noise(seed: int) -> _Noise:
    white = np.random.default_rng([seed, 0]).standard_normal((4, SIDE_PX, SIDE_PX), dtype=np.float32)
    blurred = lambda k, sigma: ndimage.gaussian_filter(white[k], sigma, mode="wrap", truncate=3.0)  # noqa: E731
    fine = blurred(0, 0.7) + 2.0 * blurred(0, 2.0)
    return _Noise(_unit(fine), _unit(blurred(1, 24.0)), white[2], _unit(blurred(3, (2.5, 160.0))))


def _code(fault: Fault) -> int:
    return 1 + KINDS.index(fault.kind)


def _unit(field: Field) -> Field:
    return ((field - field.mean()) / field.std()).astype(np.float32)


def _rim(cover: Field) -> Field:
    """1 within some pixels of the border of what is covered, on its inner side."""
    solid = cover > _HALF
    return (solid & ~ndimage.binary_erosion(solid, iterations=_RIM_PX)).astype(np.float32)


def _place(cover: Field) -> tuple[slice, slice]:
    """The rows and columns that hold what is covered."""
    rows, columns = (np.flatnonzero(cover.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _png(grey: Grey) -> bytes:
    out = io.BytesIO()
    Image.fromarray(grey).save(out, "PNG", compress_type=zlib.Z_HUFFMAN_ONLY)  # noise has no repeats
    return out.getvalue()

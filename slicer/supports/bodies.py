"""The supports of one part: which places are carried by what, the body that results, and what of the part it touches."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import manifold3d
import numpy as np
from scipy.spatial import cKDTree

from batchone.pipeline.errors import MachineError
from batchone.pipeline.process import Process, Supports
from batchone.pipeline.values import FloatArray, Mesh, Part, Support
from batchone.slicer.layers import slice_parts
from batchone.slicer.orient import Stance
from batchone.slicer.overhang import protected
from batchone.slicer.supports.block import walls
from batchone.slicer.supports.check import carried, carries_all, hanging
from batchone.slicer.supports.columns import STEP_MM, Columns, Flags, Obstacles, columns_of, obstacles
from batchone.slicer.supports.needs import Numbers, Underside, underside
from batchone.slicer.supports.tree import Trunk, bodies_of, tips_free, trunk_to

_TRIES: Final = 12  # ways up that are looked at while anything lies on nothing or hangs, the best first; project default
_TIPS: Final = 2000  # numerical: places at a time for which it is asked whether a tip may touch there
_LOOKED_AT: Final = 500  # numerical: places at a time for which it is asked whether they hang
_LEVEL: Final = 0.05  # numerical: of a layer, within which places lie as low as the lowest
_STEEPER_DEG: Final = 30.0  # from the vertical: undersides that get tips too where too few hold; project default
_PULL_MM: Final = 0.5  # numerical: layers against the tips below them
_WELD_MM: Final = 1e-4  # numerical: edges shorter than this are closed up, so that files can hold the body


@dataclass(frozen=True, slots=True, eq=False)
class Supported:
    """A part's supports, and what of its functional faces they touch, mm2 (must be 0); ``support`` is None without any.

    ``pull``: the largest area of a layer for each mm2 of tips below it that stand on the plate, where a film pulls.
    """

    support: Support | None
    functional_mm2: float
    pull: float = 0.0

    def moved(self, to_mm: FloatArray) -> Supported:
        """The same, moved (3,) with the part."""
        if self.support is None:
            return self
        mesh = Mesh(self.support.mesh.vertices_mm + to_mm, self.support.mesh.faces)
        return replace(self, support=replace(self.support, mesh=mesh))


def lift_mm(process: Process) -> float:
    """How far parts stand above the plate, in whole layers: what is cut off with the plate, or room for supports."""
    if not process.needs_supports or process.supports is None:
        return 0.0
    return math.ceil(process.supports.lift_mm / process.layer_mm - 1e-9) * process.layer_mm


def upright(part: Part, stance: Stance, process: Process) -> FloatArray:
    """(4, 4) patient LPS to where the part stands: its box in the corner of the plate, above it by the lift."""
    low = (part.mesh.vertices_mm @ stance.rotation.T).min(axis=0)
    pose: FloatArray = np.eye(4)
    pose[:3, :3] = stance.rotation
    pose[:3, 3] = np.array([0.0, 0.0, lift_mm(process)]) - low
    return pose


def carried_way(part: Part, ways: Iterable[Stance], process: Process) -> tuple[Stance, Supported]:
    """The first of several ways up (at least one) in which supports reach all that needs one, or that with least left.

    What is left counts by its islands, then by the largest area that hangs.
    """
    best: tuple[tuple[int, float], Stance, Supported] | None = None
    for stance in islice(ways, _TRIES):
        if best is not None and stance.functional_overhang_mm2 > best[1].functional_overhang_mm2 == 0.0:
            break  # those in which a functional face needs a support come last
        placed = part.mesh.moved(upright(part, stance, process))
        made = supported(part, placed, process)
        if process.supports is None or not process.needs_supports:
            return stance, made
        bodies = [placed, made.support.mesh] if made.support else [placed]
        found = carried(slice_parts(bodies, process.layer_mm), process)
        if carries_all(found, process):
            return stance, made
        islands = len(found.islands_of(process.supports.least_island_mm2))
        left = islands, float(hanging(found, process)[:, 0].max(initial=0.0))
        if best is None or left < best[0]:
            best = left, stance, made
    assert best is not None
    return best[1], best[2]


def supported(part: Part, placed: Mesh, process: Process) -> Supported:
    """Make the supports of a part.

    Parameters
    ----------
    part
        Its faces: the functional ones are kept free.
    placed
        Its mesh as it stands above the plate, mm.
    process
        ``supports``: how they are made; without them there are none.

    Raises
    ------
    MachineError
        The bodies do not make a valid solid.
    """
    made = process.supports
    if not process.needs_supports or made is None:
        return Supported(None, 0.0)
    columns = columns_of(placed, margin_mm=0.5 * process.part_spacing_mm)
    kept_free = protected(part)
    around = obstacles(placed, kept_free, columns)
    under = underside(placed, columns, process, from_deg=min(made.from_deg, process.max_overhang_deg))
    work = _Work(under, columns, around, made, _LEVEL * process.layer_mm)
    work.carry_all(spread_mm=made.spread_mm)
    work.carry_all(spread_mm=0.0)
    pull = 0.0
    if made.most_pull is not None and work.trunks:
        area_mm2 = slice_parts([placed], _PULL_MM).area_mm2()
        if work.pull(area_mm2) > made.most_pull:
            work.hold(area_mm2, underside(placed, columns, process, from_deg=_STEEPER_DEG).region >= 0)
        pull = work.pull(area_mm2)
    bodies, kinds = work.bodies()
    if not bodies:
        return Supported(None, 0.0)
    solid = manifold3d.Manifold.batch_boolean(bodies, manifold3d.OpType.Add).simplify(_WELD_MM)
    if solid.status() != manifold3d.Error.NoError or solid.volume() <= 0.0:
        raise MachineError(
            f"supports of {part.name!r} have {solid.volume():.3f} mm3, must be above 0: {solid.status()}",
            hint="stand the part another way",
        )
    contact, functional = _touched(placed, kept_free, solid)
    out = solid.to_mesh64()
    mesh = Mesh(np.array(out.vert_properties[:, :3]), np.array(out.tri_verts).astype(np.int32))
    support = Support(part.name, kinds, mesh, float(solid.volume()), contact, len(solid.decompose()))
    return Supported(support, functional, pull)


class _Work:
    """Supports in the making: what is carried so far, and by what.

    The underside is carried from the lowest place up, by blocks where an overhang is wide enough, by trees elsewhere: first
    supports stand as far apart as they may, wherever a region hangs; then more where a rim still hangs, as a ledge does.
    """

    def __init__(self, under: Underside, columns: Columns, around: Obstacles, supports: Supports, level_mm: float) -> None:
        self.under, self.columns, self.around, self.supports, self.level_mm = under, columns, around, supports, level_mm
        self.blocks: list[manifold3d.Manifold] = []
        self.trunks: list[Trunk] = []
        self._reach = under.reach_mm()
        self._places_mm = columns.at_mm(under.cell)
        count, regions = len(under.cell), under.region.max(initial=0) + 1
        self._upward = np.argsort(under.top_mm, kind="stable")
        self._closed, self._tested = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
        self._may_block = _may_block(under, around, supports)
        least_mm2 = supports.block.least_mm2 if supports.block else math.inf
        wide = np.bincount(under.region[under.region >= 0], minlength=regions) * STEP_MM**2 >= least_mm2
        self._block_here = (under.region >= 0) & wide[under.region]  # and not yet made
        self._hung = np.zeros(regions, dtype=np.bool_)  # regions that need supports

    def carry_all(self, *, spread_mm: float) -> None:
        """Carry what hangs, as far as a tip or a tooth may touch it, until nothing is farther than that from what carries it."""
        in_turn = self._upward if spread_mm > 0.0 else self._upward[self.under.hanging(self._reach)[self._upward]]
        free = np.zeros(len(self._places_mm), dtype=np.bool_)  # what is free now is so ever after
        while True:
            far = self._reach[0] if spread_mm > 0.0 else self._reach.max(axis=0)
            in_turn = in_turn[far[in_turn] > spread_mm]
            ready = in_turn[~free[in_turn] & (~self._closed[in_turn] | self._block_here[in_turn])]
            if len(ready) == 0:
                return
            place = int(ready[0])
            region = int(self.under.region[place])
            known = spread_mm > 0.0 and region >= 0 and bool(self._hung[region])
            if not known and not self.under.hangs(self._reach, ready[:1])[0]:
                some = ready[:_LOOKED_AT]
                free[some] |= ~self.under.hangs(self._reach, some)
                continue
            if region >= 0:
                self._hung[region] = True
            if self._block_here[place]:
                self._block(region)
            elif not self._tested[place]:
                self._test(ready[~self._tested[ready]][:_TIPS])
            else:
                self._trunk(place, ready)

    def bodies(self) -> tuple[list[manifold3d.Manifold], tuple[str, ...]]:
        """All that was made, and its kinds."""
        kinds = (*(("block",) if self.blocks else ()), *(("tree",) if self.trunks else ()))
        return self.blocks + bodies_of(self.trunks, self.around, self.supports), kinds

    def pull(self, area_mm2: FloatArray) -> float:
        """The largest area of a layer (of ``_PULL_MM``, from the plate) for each mm2 of the tips that hold it.

        What lies below the lowest of them counts as held by one.
        """
        count = np.maximum(self._tips_below(len(area_mm2)), 1)
        return float((area_mm2 / (count * 0.25 * math.pi * self.supports.tip_mm**2)).max(initial=0.0))

    def hold(self, area_mm2: FloatArray, steep: Flags) -> None:
        """Let more tips hold what the film pulls at, as low as they may, under ``steep`` places too; closer where they must."""
        top, places = self.under.top_mm, self._places_mm
        each_mm2 = (self.supports.most_pull or math.inf) * 0.25 * math.pi * self.supports.tip_mm**2
        wanted = np.ceil(area_mm2 / each_mm2)
        away = self._away_mm()
        for apart_mm in (2.0 * self.supports.spread_mm, self.supports.spread_mm):
            for layer in np.flatnonzero(self._tips_below(len(area_mm2)) < wanted).tolist():
                below = self._upward[(steep & (top <= (layer + 1) * _PULL_MM))[self._upward]]
                while self._tips_below(len(area_mm2))[layer] < wanted[layer]:
                    ready = below[(away[below] >= apart_mm) & ~self._closed[below]]
                    if len(ready) == 0:
                        break
                    if not self._tested[ready[0]]:
                        self._test(ready[~self._tested[ready]][:_TIPS])
                    elif self._stand(int(ready[0]), on_plate=True):
                        away = np.minimum(away, np.hypot(*(places - places[ready[0]]).T))

    def _tips_below(self, layers: int) -> Numbers:
        """(layers,) how many tips touch below the upper side of each layer of ``_PULL_MM`` and hold it to the plate.

        What stands on the part itself goes up with it when the film pulls.
        """
        heights = np.sort([trunk.tip_mm[2] for trunk in self.trunks if trunk.on_plate])
        return np.searchsorted(heights, (np.arange(layers) + 1.0) * _PULL_MM)

    def _away_mm(self) -> FloatArray:
        """(n,) how far places are from tips: seen from above from those that hold, which may stand right below others."""
        hold = np.array([trunk.tip_mm[:2] for trunk in self.trunks if trunk.on_plate]).reshape(-1, 2)
        others = np.array([trunk.tip_mm for trunk in self.trunks if not trunk.on_plate]).reshape(-1, 3)
        in_space = np.column_stack([self._places_mm, self.under.top_mm])
        return np.minimum(cKDTree(hold).query(self._places_mm)[0], cKDTree(others).query(in_space)[0])

    def _block(self, region: int) -> None:
        here = self.under.region == region
        self._block_here &= ~here
        places = np.flatnonzero(here & self._may_block)
        if len(places) and self.supports.block is not None:
            made, carried = walls(self.under, places, self.columns, self.supports.block)
            self.blocks += made
            self.under.carry(self._reach, carried)

    def _test(self, some: Numbers) -> None:
        """Close the places at which no tip may touch."""
        self._tested[some] = True
        under = self.under
        self._closed[some] |= ~tips_free(
            self._places_mm[some], under.top_mm[some], under.foot_mm[some], self.around, self.supports
        )

    def _trunk(self, place: int, ready: Numbers) -> None:
        under, supports = self.under, self.supports
        open_ = ready[~self._closed[ready] & self._tested[ready]]
        self._stand(_midst(place, open_, under.top_mm, self._places_mm, level_mm=self.level_mm, about_mm=supports.spread_mm))

    def _stand(self, place: int, *, on_plate: bool = False) -> bool:
        """Let a trunk carry a place, or close those about it that have no way either; whether there is one now.

        ``on_plate``: only one that stands on the plate.
        """
        under, supports = self.under, self.supports
        x, y = self._places_mm[place].tolist()
        trunk = trunk_to((x, y, float(under.top_mm[place])), float(under.foot_mm[place]), self.around, supports)
        if trunk is None or (on_plate and not trunk.on_plate):  # what lies so near, at that height, has no other way either
            away = np.hypot(*(self._places_mm - self._places_mm[place]).T)
            self._closed |= (away <= supports.tip_mm) & (np.abs(under.top_mm - under.top_mm[place]) <= supports.tip_height_mm)
            return False
        self.trunks.append(trunk)
        under.carry(self._reach, np.array([place]))
        return True


def _midst(place: int, open_: Numbers, top_mm: FloatArray, places_mm: FloatArray, *, level_mm: float, about_mm: float) -> int:
    """The middle one of the open places about the lowest that lie as low: a tip on a rim would stand half beside it."""
    away = np.hypot(*(places_mm[open_] - places_mm[place]).T)
    level = open_[(away <= about_mm) & (top_mm[open_] <= top_mm[place] + level_mm)]
    return int(level[np.argmin(np.hypot(*(places_mm[level] - places_mm[level].mean(axis=0)).T))])


def _may_block(under: Underside, around: Obstacles, supports: Supports) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(n,) where a wall may stand: clear of protected faces, and of the part but where it begins and ends."""
    if supports.block is None:
        return np.zeros(len(under.cell), dtype=np.bool_)
    half, into = 0.5 * supports.block.wall_mm, supports.block.penetration_mm
    radius = half + supports.side_gap_mm
    found = np.zeros(len(under.cell), dtype=np.bool_)
    over = np.flatnonzero(under.region >= 0)
    found[over] = around.free(
        around.part.at_mm(under.cell[over]),
        under.foot_mm[over] - into,
        under.top_mm[over] + into,
        part_mm=radius,
        radii_mm=(half, half),
        gap_mm=supports.gap_mm,
        slack_mm=2.0 * radius + into,
    )
    return found


def _touched(
    placed: Mesh, protected: np.ndarray[tuple[int], np.dtype[np.bool_]], solid: manifold3d.Manifold
) -> tuple[float, float]:
    """Area of the part's surface inside the supports, and of its protected faces, mm2."""
    number = manifold3d.Manifold.reserve_ids(1)
    mesh = manifold3d.Mesh64(
        placed.vertices_mm, placed.faces.astype(np.uint64), face_id=protected.astype(np.uint64),
        run_original_id=np.array([number], dtype=np.uint32),
        run_index=np.array([0, 3 * len(placed.faces)], dtype=np.uint64),
    )  # fmt: skip
    part = manifold3d.Manifold(mesh)
    common = (part ^ solid).to_mesh64()
    run, face = np.array(common.run_original_id), np.array(common.face_id)
    corners = np.array(common.vert_properties[:, :3])[np.array(common.tri_verts).astype(np.int64)]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    own = np.zeros(len(area), dtype=np.bool_)
    bounds = np.array(common.run_index).astype(np.int64) // 3
    for k, original in enumerate(run.tolist()):
        if original == number:
            own[bounds[k] : bounds[k + 1]] = True
    return float(area[own].sum()), float(area[own & (face == 1)].sum())

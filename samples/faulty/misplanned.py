"""Faults of what a device was made for: its plan, its order, the bones about it; the part itself is good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from batchone.design.cranial.columns import to_local
from batchone.design.cranial.rays import Scene
from batchone.design.family import Checked
from batchone.design.guide.body import guide_pose
from batchone.pipeline.order import PlanNoGo, Target
from batchone.pipeline.values import Axis, FieldOfView, FloatArray, Label, Mesh, Vector, VoxelLabels, moved_points
from batchone.samples.faulty.case import Seeded, Seeder
from batchone.slicer.profiles import load_process


def axis_moved(name: str, step_mm: tuple[float, float, float]) -> Seeder:
    """A way of the plan lies elsewhere; LPS mm."""

    def seed(case: Checked) -> Seeded:
        axis = case.plan.axis(name)
        moved = replace(axis, origin_mm=_vector(np.array(axis.origin_mm) + step_mm))
        return Seeded(_with_axis(case, moved), along(moved))

    return seed


def axis_beside(name: str, other: str, apart_mm: float) -> Seeder:
    """A way of the plan runs beside another one; its place is the middle between them."""

    def seed(case: Checked) -> Seeded:
        axis, there = case.plan.axis(name), case.plan.axis(other)
        aside = np.cross(np.array(there.direction), np.eye(3)[int(np.argmin(np.abs(there.direction)))])
        origin = np.array(there.origin_mm) + apart_mm * aside / np.linalg.norm(aside)
        beside = replace(axis, origin_mm=_vector(origin), direction=there.direction)
        where = along(beside) - (0.5 * apart_mm / np.linalg.norm(aside)) * aside
        return Seeded(_with_axis(case, beside), where)

    return seed


def axis_longer(name: str, by_mm: float) -> Seeder:
    """A way of the plan goes deeper."""

    def seed(case: Checked) -> Seeded:
        axis = case.plan.axis(name)
        longer = replace(axis, length_mm=(axis.length_mm or 0.0) + by_mm)
        return Seeded(_with_axis(case, longer), along(longer)[len(along(axis)) :])

    return seed


def ordered_for(side: str = "", bones: tuple[str, ...] = ()) -> Seeder:
    """The order is for another side, or for other bones."""

    def seed(case: Checked) -> Seeded:
        order = case.order.model_copy(update={"side": side or case.order.side, "target": Target(bones=bones)})
        return Seeded(replace(case, order=order), None)

    return seed


def made_by(process: str, seeder: Seeder) -> Seeder:
    """A fault of a device that is made by another process."""

    def seed(case: Checked) -> Seeded:
        order = case.order.model_copy(update={"process": process})
        return seeder(replace(case, order=order, process=load_process(process)))

    return seed


def parameter(name: str, value: object, where: Callable[[Checked], FloatArray]) -> Seeder:
    """The order has another parameter than the device was made with; ``where`` says what of the device it is for."""

    def seed(case: Checked) -> Seeded:
        parameters = case.order.parameters.model_copy(update={name: value})
        return Seeded(replace(case, order=case.order.model_copy(update={"parameters": parameters})), where(case))

    return seed


def of_face(label: str) -> Callable[[Checked], FloatArray]:
    """The middles (n, 3) of those faces of the first part whose labels begin so."""

    def places(case: Checked) -> FloatArray:
        part = case.device.parts[0]
        numbers = [k for k, name in enumerate(part.labels) if name.startswith(label) and (part.face_labels == k).any()]
        points = [part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == k])] for k in numbers]
        return np.array([one.mean(axis=0) for one in points])

    return places


def arm_of(length_mm: float) -> Callable[[Checked], FloatArray]:
    """Places (n, 3) on the bone's face where an arm of so many mm would end."""

    def places(case: Checked) -> FloatArray:
        (bone,) = case.anatomy.bones
        pose = guide_pose(case.plan.axis("insertion"), bone)
        local = Mesh(to_local(pose, bone.mesh.vertices_mm), bone.mesh.faces)
        part = to_local(pose, case.device.parts[0].mesh.vertices_mm)
        made_mm = case.order.parameters.model_dump()["extension_mm"]
        low, high = part[:, 1].min(), part[:, 1].max()
        ends = (low + made_mm - length_mm, high - made_mm + length_mm)  # it leads to one of the two
        heights = [end + aside for end in ends for aside in np.arange(-7.0, 7.1, 1.0)]
        x, y = (one.ravel() for one in np.meshgrid(np.arange(-8.0, 8.1, 1.0), heights))
        above = np.column_stack([x, y, np.full(len(x), 200.0)])
        met, _ = Scene(local).meets(above, np.tile([0.0, 0.0, -1.0], (len(x), 1)), 400.0)
        return moved_points(pose, (above - np.column_stack([0.0 * met, 0.0 * met, met]))[np.isfinite(met)])

    return places


def scan_ends(below_mm: float) -> Seeder:
    """The scan ends so far below the top of the part, and cuts the bone."""

    def seed(case: Checked) -> Seeded:
        (bone,) = case.anatomy.bones
        top = float(case.device.parts[0].mesh.vertices_mm[:, 2].max()) - below_mm
        view = np.eye(4)
        view[:3, 3] = (-500.0, -500.0, top - 1000.0)
        anatomy = replace(
            case.anatomy, bones=(replace(bone, complete=False),), field_of_view=FieldOfView(view, (1001, 1001, 1001))
        )
        hidden = bone.mesh.vertices_mm[~anatomy.field_of_view.inside(bone.mesh.vertices_mm, 0.0)]
        return Seeded(replace(case, anatomy=anatomy), hidden[np.abs(hidden[:, 2] - top) < 2.0])

    return seed


def figure_changed(name: str, value: float) -> Seeder:
    """The device says another figure of itself."""

    def seed(case: Checked) -> Seeded:
        figures = tuple((key, value if key == name else old) for key, old in case.device.figures)
        return Seeded(replace(case, device=replace(case.device, figures=figures)), None)

    return seed


def last_part_scaled(factor: float) -> Seeder:
    """The last part is printed in another scale."""

    def seed(case: Checked) -> Seeded:
        *others, last = case.device.parts
        scaled = replace(last, mesh=Mesh(last.mesh.vertices_mm * factor, last.mesh.faces))
        return Seeded(replace(case, device=replace(case.device, parts=(*others, scaled))), None)

    return seed


def bone_comes_near(clear_mm: float) -> Seeder:
    """The labels show a bone that was not ordered: one voxel of 0.5 mm, so far above the part's highest vertex."""

    def seed(case: Checked) -> Seeded:
        points = case.device.parts[0].mesh.vertices_mm
        top = points[int(np.argmax(points[:, 2]))]
        affine = np.diag([0.5, 0.5, 0.5, 1.0])
        affine[:3, 3] = top + np.array([0.0, 0.0, clear_mm + 0.25])
        own = tuple(Label(k, bone.name, bone.side, True, 1.0) for k, bone in enumerate(case.anatomy.bones, 1))
        stranger = Label(len(own) + 1, "rib", "left", True, 1.0)
        run = (np.array([0], dtype=np.int32), np.array([1], dtype=np.int16), np.array([stranger.value], dtype=np.uint8))
        labels = VoxelLabels(affine, (1, 1, 1), *run, (*own, stranger))
        return Seeded(replace(case, anatomy=replace(case.anatomy, labels=labels)), top)

    return seed


def nerve_over_the_part(clear_mm: float) -> Seeder:
    """The order declares a bent line that comes so near to the highest vertex of the part; 2 mm must stay free."""

    def seed(case: Checked) -> Seeded:
        points = case.device.parts[0].mesh.vertices_mm
        tip = points[int(np.argmax(points[:, 2]))] + np.array([0.0, 0.0, clear_mm])
        line = tuple(_vector(tip + np.array(step)) for step in ((-20.0, 5.0, 12.0), (0.0, 0.0, 0.0), (20.0, 5.0, 12.0)))
        return Seeded(_with_no_go(case, PlanNoGo(name="nerve", points_mm=line)), tip)

    return seed


def vessel_before_the_end(name: str, clear_mm: float) -> Seeder:
    """The order declares a ball of 3 mm, so far beyond the end of a planned way; 2 mm must stay free."""

    def seed(case: Checked) -> Seeded:
        axis = case.plan.axis(name)
        place = np.array(axis.origin_mm) + ((axis.length_mm or 0.0) + 1.5 + clear_mm) * np.array(axis.direction)
        ball = PlanNoGo(name="vessel", points_mm=(_vector(place),), radius_mm=1.5)
        return Seeded(_with_no_go(case, ball), place)

    return seed


def bone_unsure(sigma_mm: float) -> Seeder:
    """The scan shows the bone no better than this, one standard deviation."""

    def seed(case: Checked) -> Seeded:
        bones = tuple(replace(bone, uncertainty_mm=np.full(len(bone.uncertainty_mm), sigma_mm)) for bone in case.anatomy.bones)
        return Seeded(replace(case, anatomy=replace(case.anatomy, bones=bones)), None)

    return seed


def _with_no_go(case: Checked, structure: PlanNoGo) -> Checked:
    plan = case.order.plan.model_copy(update={"no_go": (structure,)})
    return replace(case, order=case.order.model_copy(update={"plan": plan}))


def along(axis: Axis) -> FloatArray:
    """(n, 3) places along a way, 0.5 mm apart, from its start to its end."""
    steps = np.arange(0.0, (axis.length_mm or 0.0) + 0.5, 0.5)
    return np.asarray(np.array(axis.origin_mm) + steps[:, None] * np.array(axis.direction))


def _with_axis(case: Checked, axis: Axis) -> Checked:
    axes = tuple(axis if one.name == axis.name else one for one in case.plan.axes)
    return replace(case, plan=replace(case.plan, axes=axes))


def _vector(point: FloatArray) -> Vector:
    return (float(point[0]), float(point[1]), float(point[2]))

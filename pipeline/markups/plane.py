"""A plane of a markups file: all that the file says about it, which must agree.

A plane may be stated by its points, by a normal and a centre, and by matrices. In 3D Slicer ``object -> base -> node``:
the plane's z axis is the normal, its origin the centre. A file in LPS has the first two rows of every matrix negated
(``vtkMRMLJsonWriter::WriteMatrix4x4Property``), of ``objectToBase`` too, though neither side of that is patient space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from batchone.pipeline.errors import OrderError
from batchone.pipeline.values import FloatArray

TOLERANCE_DEG = 0.02  # what statements of one plane may differ: numbers written with four digits; project default
TOLERANCE_MM = 0.01  # likewise
MIN_BREADTH_MM = 0.1  # three points nearer than this to one line make no plane; project default

_KINDS = {"pointnormal": "point", "threepoints": "three", "3points": "three", "planefit": "fit"}
_SAVE = "save the plane from 3D Slicer again, or place it anew"
Statement = tuple[str, FloatArray]
Drawn = tuple[str, FloatArray | None, FloatArray | None]  # by what, origin, normal


def read_plane(
    markup: Mapping[str, Any], points_mm: list[list[float]], flip: float, name: str
) -> tuple[list[float], list[float]]:
    """Origin and normal of a plane.

    Parameters
    ----------
    markup
        The markup as the file has it.
    points_mm
        Its placed points, LPS mm; at least one.
    flip
        What x and y of the file are multiplied by to be LPS.
    name
        For messages.

    Returns
    -------
    Origin in LPS mm, normal of length 1 in LPS.

    Raises
    ------
    OrderError
        Too few points, points in one line, no normal, numbers missing, or two statements that contradict each other.
    """
    plane = _Plane(markup, np.array(points_mm), np.array([flip, flip, 1.0]), name)
    kind = plane.kind()
    drawn = {"point": plane.by_point, "three": plane.by_three_points, "fit": plane.by_fit}[kind]()
    origins = [(label, place) for label, place, _ in drawn if place is not None]
    normals = [(label, normal) for label, _, normal in drawn if normal is not None]
    for key in ("center", "origin"):
        if (place := plane.numbers(key, 3)) is not None:
            origins.append((key, plane.to_lps * place))
    for key, size in (("normal", 3), ("orientation", 9)):
        if (given := plane.numbers(key, size)) is not None:
            normals.append((key, plane.unit(plane.to_lps * (given if size == 3 else given.reshape(3, 3)[:, 2]), key)))
    if not normals:
        raise OrderError(f"plane {name} has a point and no normal", hint=_SAVE)
    _agree(origins, normals, name)
    return (origins[0][1] + 0.0).tolist(), (normals[0][1] + 0.0).tolist()


class _Plane:
    """What the file says about one plane."""

    def __init__(self, markup: Mapping[str, Any], points_mm: FloatArray, to_lps: FloatArray, name: str) -> None:
        self.markup, self.points_mm, self.to_lps, self.name = markup, points_mm, to_lps, name

    def kind(self) -> str:
        """How the points make the plane; files before schema 1.0.3 do not say so: there it was by three points."""
        stated = self.markup.get("planeType")
        if stated is None:
            return "three" if len(self.points_mm) == 3 else "point"
        kind = _KINDS.get(str(stated).lower())
        if kind is None:
            known = "pointNormal, threePoints, planeFit"
            raise OrderError(f"plane {self.name} is of type {str(stated)[:32]!r}, must be {known}", hint=_SAVE)
        return kind

    def by_point(self) -> list[Drawn]:
        """The first point is the origin; a second one, in old files, lies along the normal."""
        if len(self.points_mm) > 2:
            raise OrderError(f"plane {self.name} has {len(self.points_mm)} placed points, must be 1 or 2", hint=_SAVE)
        base, origin = self._base(), self.points_mm[0]
        drawn: list[Drawn] = []
        if base is None:
            self._require_plain_object()
            drawn.append(("controlPoints", origin, None))
        else:
            base[:3, 3] = origin
            drawn += [self._through("controlPoints and baseToNode", base), *self._stated()]
        if len(self.points_mm) == 2:
            drawn.append(("controlPoints", None, self.unit(self.points_mm[1] - origin, "controlPoints")))
        return drawn

    def by_three_points(self) -> list[Drawn]:
        """The first point is the origin, the second lies along x, the third on the side of y."""
        if len(self.points_mm) != 3:
            raise OrderError(f"plane {self.name} has {len(self.points_mm)} placed points, must be 3", hint=_SAVE)
        origin, second, third = self.points_mm
        self._require_breadth()
        x = (second - origin) / np.linalg.norm(second - origin)
        z = self.unit(np.cross(x, third - origin), "controlPoints")
        base = np.eye(4)
        base[:3] = np.column_stack([x, np.cross(z, x), z, origin])
        return [self._through("controlPoints", base), *self._stated()]

    def by_fit(self) -> list[Drawn]:
        """The origin is the middle of the points; which way the normal points is stated beside them."""
        if len(self.points_mm) < 3:
            raise OrderError(f"plane {self.name} has {len(self.points_mm)} placed points, at least 3", hint=_SAVE)
        self._require_breadth()
        middle = self.points_mm.mean(axis=0)
        z = np.linalg.svd(self.points_mm - middle, full_matrices=False)[2][2]
        stated, normal = self._stated(), self.numbers("normal", 3)
        side = stated[0][2] if stated else None
        if side is None and normal is not None:
            side = self.to_lps * normal
        if side is None:
            raise OrderError(f"plane {self.name} is fitted to points and no normal says which side is up", hint=_SAVE)
        z = -z if z @ side < 0.0 else z
        self._require_plain_object()
        return [("controlPoints", middle, z), *stated]

    def _stated(self) -> list[Drawn]:
        base = self._base()
        if base is None:
            return []
        label, place, normal = self._through("baseToNode", base)
        placed = base[:3, 3].any()  # 3D Slicer takes the place from the points; other programs leave it at 0
        return [(label, place if placed else None, normal)]

    def _base(self) -> FloatArray | None:
        """``baseToNode`` with node = LPS, (4, 4)."""
        given = self.numbers("baseToNode", 16)
        if given is None:
            return None
        base = given.reshape(4, 4)
        base[:3] *= self.to_lps[:, None]
        return base

    def _object(self) -> FloatArray:
        """``objectToBase``, (4, 4), without the negated rows of a file in LPS."""
        given = self.numbers("objectToBase", 16)
        if given is None:
            return np.eye(4)
        matrix = given.reshape(4, 4)
        if self.to_lps[0] > 0.0:
            matrix[:2] *= -1.0
        return matrix

    def _require_plain_object(self) -> None:
        """Refuse an ``objectToBase`` that moves the plane against what is known of its base."""
        matrix = self._object()
        if np.abs(matrix[:3, 2:] - np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])).max() > 1e-6:
            raise OrderError(f"plane {self.name} has an objectToBase that its points do not explain", hint=_SAVE)

    def _through(self, label: str, base: FloatArray) -> tuple[str, FloatArray, FloatArray]:
        whole = base @ self._object()
        return label, whole[:3, 3], self.unit(whole[:3, 2], label)

    def _require_breadth(self) -> None:
        """Refuse points that lie in one line."""
        centred = self.points_mm - self.points_mm.mean(axis=0)
        along = np.linalg.svd(centred, full_matrices=False)[2][0]
        beside = centred - np.outer(centred @ along, along)
        breadth_mm = float(np.linalg.norm(beside, axis=1).max())
        if breadth_mm < MIN_BREADTH_MM:
            raise OrderError(
                f"the points of plane {self.name} lie within {breadth_mm:.3g} mm of one line, at least {MIN_BREADTH_MM:g} mm",
                hint=_SAVE,
            )

    def numbers(self, key: str, size: int) -> FloatArray | None:
        """So many numbers under a key; None where it is absent."""
        given = self.markup.get(key)
        if given is None:
            return None
        try:
            if isinstance(given, list) and len(given) == size and not any(isinstance(one, bool | str) for one in given):
                found = np.array([float(one) for one in given])
                if np.abs(found).max() < 1e6:
                    return found
        except (TypeError, ValueError, OverflowError):
            pass
        raise OrderError(f"{key} of plane {self.name} is not {size} numbers", hint=_SAVE)

    def unit(self, vector: FloatArray, label: str) -> FloatArray:
        """The vector at length 1."""
        length = float(np.linalg.norm(vector))
        if length < 1e-6:
            raise OrderError(f"the normal of plane {self.name} has length {length:.3g} by its {label}, must be 1", hint=_SAVE)
        return np.asarray(vector / length)


def _agree(origins: list[Statement], normals: list[Statement], name: str) -> None:
    first, origin = origins[0]
    for label, other in origins[1:]:
        if (apart_mm := float(np.linalg.norm(other - origin))) > TOLERANCE_MM:
            raise OrderError(
                f"plane {name} lies at {_told(origin)} mm by its {first} and at {_told(other)} mm by its {label} (LPS), "
                f"{apart_mm:.3g} mm apart, at most {TOLERANCE_MM:g} mm",
                hint=_SAVE,
            )
    first, normal = normals[0]
    for label, other in normals[1:]:
        turned_deg = float(np.degrees(2.0 * np.arcsin(min(1.0, float(np.linalg.norm(other - normal)) / 2.0))))
        if turned_deg > TOLERANCE_DEG:
            raise OrderError(
                f"plane {name} has the normal {_told(normal)} by its {first} and {_told(other)} by its {label} (LPS), "
                f"{turned_deg:.3g} deg apart, at most {TOLERANCE_DEG:g} deg",
                hint=_SAVE,
            )


def _told(vector: FloatArray) -> str:
    return "(" + ", ".join(f"{value + 0.0:.4f}" for value in vector) + ")"

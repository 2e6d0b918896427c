"""Contours of layers -> hatch lines, by the documented way of each library, on every 20th layer, scaled.

Usage: python hatches.py VARIANT CONTOURS.npz   with VARIANT shapely | pyclipr | pyslm
Prints one JSON line: name, variant, seconds, lines, versions.
"""

import json
import math
import sys
import time

import numpy as np

EVERY = 20


def rings_of(data, layer):
    chosen = np.flatnonzero(data["layer"] == layer)
    return [data["points"][data["start"][i] : data["start"][i + 1]] for i in chosen]


def grid(rings, angle_deg, spacing):
    """Parallel lines over the box of some rings, (n, 2, 2)."""
    angle = math.radians(angle_deg)
    along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    points = np.concatenate(rings)
    u, v = points @ along, points @ across
    heights = np.arange(math.ceil(v.min() / spacing), math.floor(v.max() / spacing) + 1) * spacing
    ends = np.array([u.min() - 1.0, u.max() + 1.0])
    return ends[None, :, None] * along + heights[:, None, None] * across


def shapely_lines(rings, angle_deg, spacing, inset):
    import shapely

    area = shapely.Polygon()
    for ring in sorted(rings, key=lambda one: -shapely.Polygon(one).area):
        area = area.symmetric_difference(shapely.Polygon(ring))
    room = area.buffer(-inset)
    shapely.prepare(room)
    found = shapely.intersection(shapely.linestrings(grid(rings, angle_deg, spacing)), room)
    return int(shapely.get_num_geometries(found).sum())


def pyclipr_lines(rings, angle_deg, spacing, inset):
    import pyclipr

    offset = pyclipr.ClipperOffset()
    offset.scaleFactor = 1000
    offset.addPaths([ring.tolist() for ring in rings], pyclipr.JoinType.Miter, pyclipr.EndType.Polygon)
    room = offset.execute(-inset)
    clip = pyclipr.Clipper()
    clip.scaleFactor = 1000
    clip.addPaths([line.tolist() for line in grid(rings, angle_deg, spacing)], pyclipr.Subject, True)
    clip.addPaths(room, pyclipr.Clip, False)
    return len(clip.execute(pyclipr.Intersection, pyclipr.FillRule.NonZero, returnOpenPaths=True)[1])


def pyslm_lines(rings, angle_deg, spacing, inset):
    from pyslm import hatching

    class Hatcher(hatching.Hatcher):
        @staticmethod
        def clipLines(paths, lines):  # noqa: N802: the library's own name
            """Its own way; where no line meets the layer it returns one empty row, which its next step cannot read."""
            found = hatching.Hatcher.clipLines(paths, lines)
            return found if found.shape[1] else found[:0]

    hatcher = Hatcher()
    hatcher.hatchAngle, hatcher.hatchDistance, hatcher.spotCompensation = angle_deg, spacing, inset
    hatcher.numInnerContours, hatcher.numOuterContours = 0, 0
    layer = hatcher.hatch([np.vstack([ring, ring[:1]]) for ring in rings])
    return sum(len(geometry.coords) // 2 for geometry in layer.getHatchGeometry())


if __name__ == "__main__":
    from importlib.metadata import version

    variant, data = sys.argv[1], dict(np.load(sys.argv[2]))
    work, package = {
        "shapely": (shapely_lines, "shapely"),
        "pyclipr": (pyclipr_lines, "pyclipr"),
        "pyslm": (pyslm_lines, "PythonSLM"),
    }[variant]
    versions = {package: version(package)}
    layers = np.unique(data["layer"])
    some = layers[::EVERY]
    rings = [rings_of(data, layer) for layer in some]
    started = time.perf_counter()
    lines = sum(
        work(found, float(45.0 + data["turn"] * layer) % 180.0, float(data["spacing"]), float(data["inset"]))
        for layer, found in zip(some, rings, strict=True)
    )
    seconds = (time.perf_counter() - started) * len(layers) / len(some)
    print(json.dumps({"name": "hatches", "variant": variant, "seconds": seconds, "lines": lines, "versions": versions}))

"""Closed mesh -> layers: manifold3d slice, trimesh section, PySLM's vector slices.

Usage: python layers.py VARIANT MESH.npz LAYER_MM   with VARIANT manifold3d | trimesh | pyslm; the file holds `vertices`, `faces`.
Prints one JSON line: name, variant, seconds, layers, versions. trimesh and PySLM are timed on every 20th layer and scaled.
"""

import json
import sys
import time

import numpy as np


def manifold_layers(vertices, faces, heights):
    import manifold3d

    mesh = manifold3d.Mesh64(vertices, faces.astype(np.uint64))
    body = manifold3d.Manifold(mesh)
    started = time.perf_counter()
    for z in heights:
        body.slice(float(z))
    return time.perf_counter() - started


def trimesh_layers(vertices, faces, heights):
    import trimesh

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    some = heights[::20]
    started = time.perf_counter()
    mesh.section_multiplane(plane_origin=[0, 0, 0], plane_normal=[0, 0, 1], heights=some)
    return (time.perf_counter() - started) * len(heights) / len(some)


def pyslm_layers(vertices, faces, heights):
    import pyslm
    import trimesh

    part = pyslm.Part("body")
    part.setGeometryByMesh(trimesh.Trimesh(vertices, faces, process=False))
    some = heights[::20]
    part.getVectorSlice(float(some[0]))
    started = time.perf_counter()
    for z in some:
        part.getVectorSlice(float(z))
    return (time.perf_counter() - started) * len(heights) / len(some)


if __name__ == "__main__":
    from importlib.metadata import version

    variant, path, layer_mm = sys.argv[1], sys.argv[2], float(sys.argv[3])
    data = np.load(path)
    z = data["vertices"][:, 2]
    heights = np.arange(z.min() + layer_mm / 2, z.max(), layer_mm)
    work, packages = {
        "manifold3d": (manifold_layers, ("manifold3d",)),
        "trimesh": (trimesh_layers, ("trimesh",)),
        "pyslm": (pyslm_layers, ("PythonSLM", "trimesh")),
    }[variant]
    seconds = work(data["vertices"], data["faces"], heights)
    versions = {name: version(name) for name in packages}
    print(json.dumps({"name": "layers", "variant": variant, "seconds": seconds, "layers": len(heights), "versions": versions}))

"""3MF: written by hand, so that every byte is ours and repeats; read back with lib3mf in strict mode.

lib3mf's own writer gives transforms six significant digits only, and an impossible date to the archive. :func:`read_3mf` is the
reference reader of the 3MF consortium: every file passes through it before it is handed on (``readback.py``).
"""

from __future__ import annotations

import ctypes
import io
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

import lib3mf
import numpy as np

from batchone.pipeline.errors import MachineError
from batchone.pipeline.values import FloatArray, IntArray, Mesh
from batchone.slicer.mesh_text import mesh_text
from batchone.slicer.sweep import half_edge_twins

NAMESPACE: Final = "urn:batchone:3mf:1"  # of our own metadata names
_UUID_SPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, NAMESPACE)
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)  # the first date an archive can hold: outputs carry no clock
_COMPRESSION: Final = 3  # of 1 to 9: within 10 % of the smallest at a third of the time
POSE_DIGITS: Final = 9  # significant digits of a transform: those of float32
_RIGID: Final = 1e-5  # numerical: float32 rotation

_CORE: Final = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
_PRODUCTION: Final = "http://schemas.microsoft.com/3dmanufacturing/production/2015/06"
_XML: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SLICE: Final = "http://schemas.microsoft.com/3dmanufacturing/slice/2015/07"
_MODEL_PART, _THUMBNAIL, _MANIFEST = "3D/3dmodel.model", "Metadata/thumbnail.png", "Metadata/batchone.json"
_CONTENT_TYPES: Final = (
    _XML + '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">\n'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>\n'
    '<Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/>\n'
    '<Default Extension="png" ContentType="image/png"/>\n'
    '<Default Extension="json" ContentType="application/json"/>\n</Types>\n'
)
_RELATIONS: Final = {
    _MODEL_PART: "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel",
    _THUMBNAIL: "http://schemas.openxmlformats.org/package/2006/relationships/metadata/thumbnail",
    _MANIFEST: "http://schemas.openxmlformats.org/package/2006/relationships/mustpreserve",
}


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One body of a 3MF file: name, mesh (mm, its own frame) and the (4, 4) pose of that frame on the plate.

    ``slices``: the element of the slice extension with its layers, of id ``{id}``, where the file has them.
    """

    name: str
    mesh: Mesh
    pose: FloatArray
    slices: bytes = b""


def write_3mf(
    items: Sequence[Item], *, title: str, notes: Mapping[str, str], manifest: bytes = b"", thumbnail: bytes = b""
) -> bytes:
    """Write bodies with their build-item transforms; units mm.

    Parameters
    ----------
    items
        Closed, outward-oriented meshes.
    title
        ``Title`` of the file; no patient identity.
    notes
        Our own metadata, written under the namespace ``urn:batchone:3mf:1``.
    manifest
        JSON that every program that changes the file has to keep (relationship MustPreserve).
    thumbnail
        PNG.
    """
    bodies: list[bytes] = []
    build: list[str] = []
    identity = sha256()
    for number, item in enumerate(items, start=1):
        text = mesh_text(item.mesh)
        transform = " ".join(f"{value:.{POSE_DIGITS}g}" for value in item.pose[:3, :].T.ravel())  # row vectors, as 3MF has them
        digest = sha256(f"{number} {item.name} {transform}\n".encode() + text).hexdigest()
        identity.update(digest.encode())
        name = quoteattr(item.name)
        stack = f' s:slicestackid="{len(items) + number}"' if item.slices else ""
        bodies += [
            item.slices.replace(b"{id}", str(len(items) + number).encode(), 1),
            f'<object id="{number}" name={name} type="model" p:UUID="{_uuid("object", digest)}"{stack}>\n'.encode(),
            text,
            b"</object>\n",
        ]
        build.append(f'<item objectid="{number}" partnumber={name} p:UUID="{_uuid("item", digest)}" transform="{transform}"/>\n')
    metadata = {"Title": title, "Application": "batchone", **{f"b:{key}": text for key, text in notes.items()}}
    identity.update(repr(metadata).encode())
    names = f'xmlns="{_CORE}" xmlns:p="{_PRODUCTION}" xmlns:b="{NAMESPACE}"'
    if any(item.slices for item in items):
        names += f' xmlns:s="{_SLICE}"'
    head = (
        f'{_XML}<model {names} unit="millimeter" xml:lang="en-US">\n'
        + "".join(f'<metadata name={quoteattr(key)} preserve="1">{escape(text)}</metadata>\n' for key, text in metadata.items())
        + "<resources>\n"
    )
    tail = f'</resources>\n<build p:UUID="{_uuid("build", identity.hexdigest())}">\n{"".join(build)}</build>\n</model>\n'
    model = b"".join((head.encode(), *bodies, tail.encode()))
    return packed_model(model, manifest=manifest, thumbnail=thumbnail)


def packed_model(model: bytes, *, manifest: bytes = b"", thumbnail: bytes = b"") -> bytes:
    """A 3MF file of a model part and what goes with it."""
    links = _relationships(_MODEL_PART, *([_THUMBNAIL] if thumbnail else []))
    files = {"[Content_Types].xml": _CONTENT_TYPES.encode(), "_rels/.rels": links, _MODEL_PART: model}
    if thumbnail:
        files[_THUMBNAIL] = thumbnail
    if manifest:  # related to the model: there lib3mf looks for what it has to keep
        files["3D/_rels/3dmodel.model.rels"] = _relationships(_MANIFEST)
        files[_MANIFEST] = manifest
    return packed(files)


def read_3mf(data: bytes) -> tuple[Item, ...]:
    """Read a 3MF file with lib3mf in strict mode.

    Raises
    ------
    MachineError
        lib3mf refuses the file or warns, the unit is not mm, a mesh is not manifold and oriented, an item is no mesh, or a
        transform is not rigid (lib3mf itself lets mirroring pass).
    """
    wrapper = _library()
    model = wrapper.CreateModel()
    reader = model.QueryReader("3mf")
    reader.SetStrictModeActive(True)
    buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
    try:
        # the binding's own ReadFromBuffer makes a Python object of each byte
        wrapper.checkError(reader, wrapper.lib.lib3mf_reader_readfrombuffer(reader._handle, ctypes.c_uint64(len(data)), buffer))
    except lib3mf.ELib3MFException as error:
        raise _refused(str(error)) from error
    if reader.GetWarningCount():
        raise _refused(f"{reader.GetWarningCount()} warnings in strict mode, at most 0: {reader.GetWarning(0)[1]}")
    if model.GetUnit() != lib3mf.ModelUnit.MilliMeter:
        raise _refused("the unit is not millimetre")
    items = []
    each = model.GetBuildItems()
    while each.MoveNext():
        items.append(_item(each.GetCurrent()))
    if not items:
        raise _refused("nothing is to be built")
    return tuple(items)


@lru_cache(maxsize=1)
def _library() -> Any:
    return lib3mf.get_wrapper()  # loads the shared library: once per process


def _relationships(*names: str) -> bytes:
    links = (f'<Relationship Type="{_RELATIONS[name]}" Target="/{name}" Id="rel{n}"/>\n' for n, name in enumerate(names))
    head = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">\n'
    return f"{_XML}{head}{''.join(links)}</Relationships>\n".encode()


def _uuid(role: str, digest: str) -> str:
    return str(uuid.uuid5(_UUID_SPACE, f"{role} {digest}"))


def packed(contents: Mapping[str, bytes]) -> bytes:
    """A zip archive of files, compressed; the same bytes for the same contents."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            info = zipfile.ZipInfo(name, _ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 0  # the same on every operating system
            archive.writestr(info, data, compresslevel=_COMPRESSION)
    return out.getvalue()


def _item(placed: Any) -> Item:
    body = placed.GetObjectResource()
    if not isinstance(body, lib3mf.MeshObject):
        raise _refused("a build item is not a mesh")
    name = body.GetName()
    mesh = _geometry(body)
    # lib3mf's IsManifoldAndOriented asks the same of the edges, at ten times the cost
    _, open_edges, crowded_edges = half_edge_twins(mesh.faces, len(mesh.vertices_mm))
    if open_edges or crowded_edges:
        raise _refused(
            f"mesh {name!r} has {open_edges} open and {crowded_edges} shared edges, at most 0: not manifold and oriented"
        )
    pose = _pose(placed.GetObjectTransform())
    turn = pose[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > _RIGID or np.linalg.det(turn) < 0:
        raise _refused(f"the transform of {name!r} mirrors or scales; its determinant is {np.linalg.det(turn):.6f}")
    return Item(name, mesh, pose)


def _geometry(body: Any) -> Mesh:
    # the binding's own GetVertices makes a Python object of each vertex
    wrapper = _library()
    vertices: FloatArray = np.empty((body.GetVertexCount(), 3), dtype=np.float32)
    faces: IntArray = np.empty((body.GetTriangleCount(), 3), dtype=np.uint32)
    for array, kind, read in (
        (vertices, lib3mf.Position, wrapper.lib.lib3mf_meshobject_getvertices),
        (faces, lib3mf.Triangle, wrapper.lib.lib3mf_meshobject_gettriangleindices),
    ):
        count = ctypes.c_uint64(len(array))
        wrapper.checkError(body, read(body._handle, count, ctypes.c_uint64(0), (kind * len(array)).from_buffer(array)))
    return Mesh(vertices.astype(np.float64), faces.astype(np.int32))


def _pose(transform: Any) -> FloatArray:
    fields = np.array([[transform.Fields[row][column] for column in range(3)] for row in range(4)], dtype=np.float64)
    pose: FloatArray = np.eye(4)
    pose[:3, :] = fields.T
    return pose


def _refused(what: str) -> MachineError:
    return MachineError(f"3MF file refused: {what}", hint="run slicing again; if it stays, run the design checks on the mesh")

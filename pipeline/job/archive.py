"""Reads the meshes of a 3MF file that may be hostile, with the standard library and numpy alone.

Limits on names, sizes and packing ratio; no DTD, no entities; core specification 1.x (objects, components, build items).
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

import numpy as np
import numpy.typing as npt

from batchone.pipeline.errors import MachineError
from batchone.pipeline.values import FloatArray

Block = npt.NDArray[np.float64] | npt.NDArray[np.int64]

_MAX_ENTRIES = 200  # a 3MF of this kind has about five
_MAX_UNPACKED_BYTES = 2_000_000_000  # beyond it the file is refused, not read
_MAX_RATIO = 200  # unpacked to packed; repetitive XML of a mesh reaches about 30
_MAX_DEPTH = 8  # components inside components
_MAX_INSTANCES = 10_000
_CHUNK_BYTES = 1 << 20
_MOST_DIGITS = 15  # of an index: no mesh has as many vertices, and it fits 64 bits
_NUMBER = rb"-?\d+(?:\.\d+)?"
_LISTS = {
    b"vertices": re.compile(rb'(?:\s*+<vertex x="%b" y="%b" z="%b"\s*+/>)*+\s*+' % (_NUMBER, _NUMBER, _NUMBER)),
    b"triangles": re.compile(rb'(?:\s*+<triangle v1="\d{1,15}" v2="\d{1,15}" v3="\d{1,15}"\s*+/>)*+\s*+'),
}
_ONLY_NUMBERS = bytes(byte if byte in b"0123456789.-" else 32 for byte in range(256))


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """One body of a build: name, (n, 3) vertices in mm, (m, 3) triangles, and the (4, 4) pose that places it."""

    name: str
    vertices_mm: npt.NDArray[np.float64]
    triangles: npt.NDArray[np.int64]
    pose: FloatArray


@dataclass(slots=True)
class _Thing:
    name: str = ""
    vertices: list[tuple[float, float, float]] = field(default_factory=list)
    triangles: list[tuple[int, int, int]] = field(default_factory=list)
    blocks: dict[str, Block] = field(default_factory=dict)
    components: list[tuple[str, FloatArray]] = field(default_factory=list)


@dataclass(slots=True)
class ThreeMF:
    """What a 3MF file holds, not yet put together."""

    unit: str = "millimeter"
    objects: dict[str, _Thing] = field(default_factory=dict)
    items: list[tuple[str, FloatArray]] = field(default_factory=list)
    open_object: _Thing | None = None
    blocks: Iterator[Block] = field(default_factory=lambda: iter(()))


def threemf_bodies(data: bytes) -> tuple[Body, ...]:
    """Read the bodies of the build one by one; see :func:`read_threemf` and :func:`bodies_of`."""
    return bodies_of(read_threemf(data))


def read_threemf(data: bytes) -> ThreeMF:
    """Read a 3MF file.

    Raises
    ------
    MachineError
        Not a 3MF file, outside the limits, or in another unit.
    """
    model = _parsed(_model_xml(data))
    if model.unit != "millimeter":
        raise MachineError(f"3MF unit is {model.unit!r}, must be 'millimeter'")
    return model


def corners_of(model: ThreeMF) -> npt.NDArray[np.float64]:
    """All triangles of the build, placed: (n, 3, 3) corners in mm.

    Raises
    ------
    MachineError
        There is none, or the file contradicts itself.
    """
    found: list[npt.NDArray[np.float64]] = []
    for name, pose in model.items:
        _collect(model, name, pose, depth=0, found=found)
    if not found:
        raise MachineError("3MF builds no triangle, at least 1")
    return np.concatenate(found)


def bodies_of(model: ThreeMF) -> tuple[Body, ...]:
    """The bodies of the build one by one, in its order, each a mesh of its own.

    Raises
    ------
    MachineError
        As :func:`corners_of`; or an item has components.
    """
    bodies: list[Body] = []
    for name, pose in model.items:
        thing = model.objects.get(name)
        if thing is None or thing.components or len(bodies) >= _MAX_INSTANCES:
            raise MachineError("3MF build is not sound: an unknown object, one with components, or too many")
        bodies.append(Body(thing.name, *_geometry(thing), pose))
    if not bodies:
        raise MachineError("3MF builds no body, at least 1")
    return tuple(bodies)


def _model_xml(data: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries)
            models = [entry for entry in entries if entry.filename.lower().endswith(".model")]
            if len(models) != 1:
                raise MachineError(f"3MF has {len(models)} models, must be 1")
            with archive.open(models[0]) as file:
                return file.read(models[0].file_size + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise MachineError("3MF is not a readable zip archive") from error


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    if len(entries) > _MAX_ENTRIES or len(set(names)) != len(names):
        raise MachineError(f"3MF has {len(entries)} entries, at most {_MAX_ENTRIES}, each once")
    for entry in entries:
        parts = entry.filename.replace("\\", "/").split("/")
        if entry.filename.startswith("/") or ".." in parts:
            raise MachineError("3MF holds a path that leads outside it")
        if entry.file_size > _MAX_RATIO * max(entry.compress_size, 1) + _CHUNK_BYTES:
            raise MachineError(f"3MF entry unpacks to more than {_MAX_RATIO} times its size")
    total = sum(entry.file_size for entry in entries)
    if total > _MAX_UNPACKED_BYTES:
        raise MachineError(f"3MF unpacks to {total} bytes, at most {_MAX_UNPACKED_BYTES} bytes")


def _parsed(xml: bytes) -> ThreeMF:
    """Parse the model; the long plain lists of vertices and triangles are read by numpy, the rest by expat."""
    xml, blocks = _without_lists(xml)
    model = ThreeMF(blocks=iter(blocks))
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, given: _start(model, name, given)
    parser.EndElementHandler = lambda name: _end(model, name)
    parser.StartDoctypeDeclHandler = _refuse_dtd
    parser.EntityDeclHandler = _refuse_dtd
    try:
        parser.Parse(xml, True)
    except (expat.ExpatError, KeyError, ValueError, UnicodeError) as error:
        raise MachineError("3MF model is not well formed") from error
    return model


def _without_lists(xml: bytes) -> tuple[bytes, list[Block]]:
    """Take out the lists that hold nothing but plain elements: several times as quick as a call for each element.

    Where anything could hide a list from the parser or the parser from a list, all is left to the parser.
    """
    if b"<!" in xml or b"\x00" in xml:
        return xml, []
    rest, lists, at = [], [], 0
    for opening in re.finditer(rb"<(vertices|triangles)\b", xml):
        name, start = opening[1], opening.end() + 1
        end = xml.find(b"</" + name + b">", start)
        inner = xml[start:end]
        if end < 0 or xml[start - 1 : start] != b">" or not _LISTS[name].fullmatch(inner):
            return xml, []
        rest.append(xml[at:start])
        lists.append(_numbers(name, inner))
        at = end
    return b"".join([*rest, xml[at:]]), lists


def _numbers(name: bytes, inner: bytes) -> Block:
    if name == b"vertices":
        return np.fromstring(inner.translate(_ONLY_NUMBERS), dtype=np.float64, sep=" ").reshape(-1, 3)
    for mark in (b" v1=", b" v2=", b" v3="):  # their digits are no indices
        inner = inner.replace(mark, b" ")
    return np.fromstring(inner.translate(_ONLY_NUMBERS), dtype=np.int64, sep=" ").reshape(-1, 3)


def _refuse_dtd(*_given: object) -> None:
    raise MachineError("3MF model holds a DTD or an entity, which is refused")


def _start(model: ThreeMF, name: str, given: dict[str, str]) -> None:
    target = model.open_object
    if name == "vertex" and target is not None:
        target.vertices.append((float(given["x"]), float(given["y"]), float(given["z"])))
    elif name == "triangle" and target is not None:
        target.triangles.append((_index(given["v1"]), _index(given["v2"]), _index(given["v3"])))
    elif name == "component" and target is not None:
        target.components.append((given["objectid"], _pose(given.get("transform"))))
    elif name in ("vertices", "triangles") and target is not None:
        block = next(model.blocks, None)
        if block is not None:
            target.blocks[name] = block
    elif name == "object":
        if given["id"] in model.objects:
            raise MachineError("3MF names one object twice")
        model.open_object = model.objects[given["id"]] = _Thing(given.get("name", ""))
    elif name == "item":
        model.items.append((given["objectid"], _pose(given.get("transform"))))
    elif name == "model":
        model.unit = given.get("unit", "millimeter")


def _end(model: ThreeMF, name: str) -> None:
    if name == "object":
        model.open_object = None


def _index(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError("index")
    return int(text)


def _pose(text: str | None) -> FloatArray:
    """A 3MF transform (twelve numbers, row vectors) as a (4, 4) matrix for column vectors."""
    pose = np.eye(4)
    if text is not None:
        numbers = [float(word) for word in text.split()]
        if len(numbers) != 12:
            raise ValueError("transform")
        pose[:3, :] = np.array(numbers).reshape(4, 3).T
    return pose


def _collect(model: ThreeMF, name: str, pose: FloatArray, *, depth: int, found: list[npt.NDArray[np.float64]]) -> None:
    if name not in model.objects or depth > _MAX_DEPTH or len(found) > _MAX_INSTANCES:
        raise MachineError("3MF build is not sound: an unknown object, or components nested too deep or too many")
    thing = model.objects[name]
    vertices, triangles = _geometry(thing)
    if len(triangles):
        found.append((vertices @ pose[:3, :3].T + pose[:3, 3])[triangles])
    for child, child_pose in thing.components:
        _collect(model, child, pose @ child_pose, depth=depth + 1, found=found)


def _geometry(thing: _Thing) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    vertices = thing.blocks.get("vertices", np.array(thing.vertices, dtype=np.float64).reshape(-1, 3))
    triangles = thing.blocks.get("triangles", np.array(thing.triangles, dtype=np.int64).reshape(-1, 3))
    if len(triangles) and (triangles.min() < 0 or triangles.max() >= len(vertices)):
        raise MachineError("3MF triangle names a vertex that is not there")
    return np.asarray(vertices, dtype=np.float64), np.asarray(triangles, dtype=np.int64)

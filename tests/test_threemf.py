"""3MF files: what was written reads back, by the reference reader and by another one; nothing is mirrored; bytes repeat."""

from __future__ import annotations

import ctypes
import io
import zipfile

import lib3mf
import numpy as np
import pytest
from PIL import Image

from batchone.pipeline.errors import MachineError
from batchone.pipeline.values import FloatArray, Mesh
from batchone.slicer.cli_format import read_cli, write_cli
from batchone.slicer.layers import slice_parts
from batchone.slicer.mesh_text import mesh_text
from batchone.slicer.slice_stack import with_slices
from batchone.slicer.threemf import Item, read_3mf, write_3mf
from batchone.slicer.thumbnail import thumbnail_png

NOTES = {"frame": "patient LPS, mm"}


def wedge() -> Mesh:
    """A tetrahedron without any symmetry, at a far corner of a scanner's frame."""
    corners = np.array([[0.0, 0.0, 0.0], [11.0, 0.0, 0.0], [2.0, 7.0, 0.0], [3.0, 1.0, 5.0]]) + np.array([-123.4, 56.7, -890.1])
    return Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], dtype=np.int32))


def standing(x_mm: float) -> Mesh:
    """The same on a plate, beside its origin."""
    return Mesh(wedge().vertices_mm - wedge().vertices_mm.min(axis=0) + np.array([5.0 + x_mm, 5.0, 0.0]), wedge().faces)


def turned(angle_deg: float, shift_mm: tuple[float, float, float]) -> FloatArray:
    cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    pose = np.eye(4)
    pose[:3, :3] = np.array([[cos, -sin, 0.0], [0.6 * sin, 0.6 * cos, -0.8], [0.8 * sin, 0.8 * cos, 0.6]])
    pose[:3, 3] = shift_mm
    return pose


def model_text(data: bytes) -> str:
    return zipfile.ZipFile(io.BytesIO(data)).read("3D/3dmodel.model").decode()


def edited(data: bytes, old: str, new: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            text = source.read(name).decode()
            assert name != "3D/3dmodel.model" or old in text
            target.writestr(name, text.replace(old, new))
    return out.getvalue()


def test_bodies_and_poses_read_back_in_strict_mode() -> None:
    pose = turned(77.0, (140.123456, 30.5, 21.25))
    items = [Item("plug", wedge(), pose), Item("pin <2> & more", wedge(), turned(10.0, (1.0, 2.0, 3.0)))]
    read = read_3mf(write_3mf(items, title="plate", notes=NOTES))
    assert [item.name for item in read] == ["plug", "pin <2> & more"]
    for got, wanted in zip(read, items, strict=True):
        np.testing.assert_allclose(
            got.mesh.vertices_mm, wanted.mesh.vertices_mm, atol=6.2e-5
        )  # half a float32 step at 890 mm, twice
        np.testing.assert_array_equal(got.mesh.faces, wanted.mesh.faces)
        np.testing.assert_allclose(got.pose, wanted.pose, atol=1e-5)  # float32 at 140 mm
        assert np.linalg.det(got.pose[:3, :3]) == pytest.approx(1.0, abs=1e-6)


def test_another_reader_sees_the_same_body_in_the_same_place() -> None:
    import trimesh

    pose = turned(77.0, (140.0, 30.5, 921.25))
    scene = trimesh.load_scene(io.BytesIO(write_3mf([Item("plug", wedge(), pose)], title="t", notes=NOTES)), file_type="3mf")
    seen = scene.to_mesh()
    wanted = trimesh.Trimesh(wedge().moved(pose).vertices_mm, wedge().faces, process=False)
    assert seen.volume == pytest.approx(wanted.volume, rel=1e-4)
    assert seen.volume > 0
    np.testing.assert_allclose(seen.bounds, wanted.bounds, atol=2e-4)  # float32 at 900 mm, rotated


def test_coordinates_are_written_to_a_millionth_of_a_millimetre() -> None:
    values = [0.0, -0.0000004, 0.0000006, -1.5, 9.9999996, -1234.567891, 999999.9999994]
    corners = np.array([[value, 0.0, 1.0] for value in values])
    text = mesh_text(Mesh(corners, np.array([[0, 1, 2], [10, 205, 3]], dtype=np.int32))).decode()
    written = [line.split('"')[1] for line in text.splitlines() if line.startswith("<vertex")]
    assert written == ["0.000000", "0.000000", "0.000001", "-1.500000", "10.000000", "-1234.567891", "999999.999999"]
    assert '<triangle v1="10" v2="205" v3="3"/>' in text
    for bad in (1e6, np.inf, np.nan):
        with pytest.raises(ValueError, match="below 1 km"):
            mesh_text(Mesh(np.full((3, 3), bad), np.zeros((1, 3), np.int32)))


def test_unit_metadata_and_archive_are_as_stated() -> None:
    data = write_3mf([Item("plug", wedge(), np.eye(4))], title="cranial-implant, plug", notes=NOTES)
    text = model_text(data)
    assert 'unit="millimeter"' in text
    assert '<metadata name="Title" preserve="1">cranial-implant, plug</metadata>' in text
    assert '<metadata name="Application" preserve="1">batchone</metadata>' in text
    assert 'b:frame" preserve="1">patient LPS, mm</metadata>' in text
    assert 'xmlns:b="urn:batchone:3mf:1"' in text
    assert "Date" not in text
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert [entry.filename for entry in archive.infolist()] == ["[Content_Types].xml", "_rels/.rels", "3D/3dmodel.model"]
    assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_identifiers_are_hashes_of_the_content() -> None:
    def identifiers(shift_mm: float) -> list[str]:
        pose = turned(5.0, (shift_mm, 0.0, 0.0))
        text = model_text(write_3mf([Item("plug", wedge(), pose)], title="t", notes=NOTES))
        return [piece.split('"')[0] for piece in text.split('UUID="')[1:]]

    assert identifiers(1.0) == identifiers(1.0)
    assert len(set(identifiers(1.0))) == 3
    assert not set(identifiers(1.0)) & set(identifiers(2.0))


def test_a_file_that_is_damaged_or_not_allowed_is_refused() -> None:
    data = write_3mf([Item("plug", wedge(), np.eye(4))], title="t", notes=NOTES)
    mirrored = edited(data, 'transform="1 0 0', 'transform="-1 0 0')
    inches = edited(data, 'unit="millimeter"', 'unit="inch"')
    opened = edited(data, '<triangle v1="2" v2="0" v3="3"/>', "")
    flipped = edited(data, '<triangle v1="2" v2="0" v3="3"/>', '<triangle v1="0" v2="2" v3="3"/>')
    for bad in (b"", b"PK\x03\x04", data[: len(data) // 2], inches, opened, flipped, mirrored):
        with pytest.raises(MachineError, match="3MF file refused"):
            read_3mf(bad)


def test_a_mesh_is_manifold_and_oriented_exactly_when_lib3mf_says_so() -> None:
    two = np.concatenate([wedge().vertices_mm, wedge().vertices_mm[[2, 3]] + 9.0])
    joined = np.concatenate([wedge().faces, np.array([[0, 4, 1], [0, 1, 5], [1, 4, 5], [4, 0, 5]], dtype=np.int32)])
    apart = np.concatenate([wedge().faces, wedge().faces + 4])
    solids = {
        "closed": Mesh(wedge().vertices_mm, wedge().faces),
        "two bodies": Mesh(np.concatenate([wedge().vertices_mm, wedge().vertices_mm + 20.0]), apart),
        "two bodies that share an edge": Mesh(two, joined),
        "open": Mesh(wedge().vertices_mm, wedge().faces[:3]),
        "a face turned over": Mesh(wedge().vertices_mm, np.array([[0, 1, 2], [0, 1, 3], [1, 2, 3], [2, 0, 3]], dtype=np.int32)),
    }
    for name, mesh in solids.items():
        model = lib3mf.get_wrapper().CreateModel()
        body = model.AddMeshObject()
        positions = [lib3mf.Position((ctypes.c_float * 3)(*p)) for p in mesh.vertices_mm.tolist()]
        triangles = [lib3mf.Triangle((ctypes.c_uint32 * 3)(*f)) for f in mesh.faces.tolist()]
        body.SetGeometry(positions, triangles)
        data = write_3mf([Item("p", mesh, np.eye(4))], title="t", notes=NOTES)
        if body.IsManifoldAndOriented():
            assert len(read_3mf(data)) == 1, name
        else:
            with pytest.raises(MachineError, match="3MF file refused"):
                read_3mf(data)


def test_layers_read_back_as_slices_of_their_parts_with_lib3mf() -> None:
    items = [Item("plug", standing(0.0), np.eye(4)), Item("pin", standing(20.0), np.eye(4))]
    layers = slice_parts([item.mesh for item in items], 0.5)
    cli = read_cli(write_cli(layers, ["plug", "pin"]))
    data = with_slices(write_3mf(items, title="t", notes={}), cli)
    assert [item.name for item in read_3mf(data)] == ["plug", "pin"]
    model = lib3mf.get_wrapper().CreateModel()
    reader = model.QueryReader("3mf")
    reader.SetStrictModeActive(True)
    reader.ReadFromBuffer(data)
    assert reader.GetWarningCount() == 0
    bodies = model.GetMeshObjects()
    for part in range(2):
        assert bodies.MoveNext()
        stack = bodies.GetCurrentMeshObject().GetSliceStack()
        assert stack.GetSliceCount() == cli.layers.count
        for k in range(stack.GetSliceCount()):
            one = stack.GetSlice(k)
            assert one.GetZTop() == pytest.approx(0.5 * (k + 1))
            corners = np.array([list(vertex.Coordinates) for vertex in one.GetVertices()])
            area = 0.0
            for polygon in range(one.GetPolygonCount()):
                loop = list(one.GetPolygonIndices(polygon))
                assert loop[0] == loop[-1]
                x, y = corners[loop].T
                area += 0.5 * float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))
            assert area == pytest.approx(cli.layers.area_mm2(part)[k], rel=1e-5)


def test_thumbnail_and_what_must_be_kept_are_in_the_file_and_lib3mf_sees_them() -> None:
    png = thumbnail_png(slice_parts([standing(0.0)], 0.5))
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.size == (256, 256)
        grey = np.asarray(picture.convert("L"))
    assert grey[0, 0] == 255
    assert 0.1 < (grey < 250).mean() < 0.9
    data = write_3mf([Item("plug", standing(0.0), np.eye(4))], title="t", notes={}, manifest=b'{"a": 1}', thumbnail=png)
    model = lib3mf.get_wrapper().CreateModel()
    reader = model.QueryReader("3mf")
    reader.SetStrictModeActive(True)
    reader.AddRelationToRead("http://schemas.openxmlformats.org/package/2006/relationships/mustpreserve")
    reader.ReadFromBuffer(data)
    assert reader.GetWarningCount() == 0
    assert model.HasPackageThumbnailAttachment()
    kept = {
        model.GetAttachment(k).GetPath(): bytes(model.GetAttachment(k).WriteToBuffer()) for k in range(model.GetAttachmentCount())
    }
    assert kept["/Metadata/batchone.json"] == b'{"a": 1}'
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("Metadata/thumbnail.png") == png

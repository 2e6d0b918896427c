"""What the machine reads of a build: plate, layers and images; made from placed bodies, read back and measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from batchone.pipeline.build.manifest import SUPPORTS, Kind
from batchone.pipeline.build.released import Released
from batchone.pipeline.build.user_data import on_plate
from batchone.pipeline.job.archive import Body
from batchone.pipeline.job.layer_picture import layer_pictures
from batchone.pipeline.job.manifest import SupportEntry
from batchone.pipeline.job.pictures import Picture
from batchone.pipeline.machine import Machine
from batchone.pipeline.process import Process
from batchone.pipeline.side_by_side import beside
from batchone.pipeline.values import Estimate, FloatArray, Mesh, Part, Placement, Support
from batchone.slicer.cli_format import CliFile, read_cli
from batchone.slicer.cli_header import with_medical
from batchone.slicer.draw import draw
from batchone.slicer.estimate import estimate
from batchone.slicer.images import image_findings, write_sl1
from batchone.slicer.layers import Layers, slice_parts
from batchone.slicer.readback import read_back, refuse_failed, volume_mm3
from batchone.slicer.threemf import Item, write_3mf
from batchone.slicer.thumbnail import thumbnail_png

_FRAME = "parts in patient LPS, supports in their job's plate frame, mm; build items in the machine's plate frame, mm, origin at "
_FRAME += "the corner, z up"


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A body of a job, on the plate; ``pose`` maps its own frame to the machine's plate frame."""

    job: Released
    body: Body
    unit: int
    pose: FloatArray

    @property
    def kind(self) -> Kind:
        """What it is."""
        return "supports" if self.body.name.startswith(SUPPORTS) else "part"

    @property
    def part(self) -> str:
        """The part that it is or carries."""
        return self.body.name.removeprefix(SUPPORTS)

    def user_data(self, label: str) -> dict[str, str]:
        """What the layer file says of the scan under this label; {} of supports, and where the job does not say."""
        said = self.job.user_data.get(self.part) if self.kind == "part" else None
        return {} if said is None else on_plate(said, label, self.pose)

    @property
    def own(self) -> Mesh:
        """The mesh in its own frame."""
        return Mesh(self.body.vertices_mm, self.body.triangles.astype(np.int32))

    @property
    def mesh(self) -> Mesh:
        """The mesh on the plate."""
        return self.own.moved(self.pose)

    @property
    def support(self) -> SupportEntry:
        """What its job says of these supports."""
        return next(entry for entry in self.job.manifest.build.supports if entry.part == self.part)


@dataclass(frozen=True, slots=True, eq=False)
class MachineFiles:
    """Files of a build, what it will take, and pictures of its layers; ``images`` is b"" where no mask shows any."""

    plate_3mf: bytes
    layers_cli: bytes
    images: bytes
    estimate: Estimate
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Labelled(Support):
    """Supports under the label that they have in the files of a build."""

    label: str

    @property
    def name(self) -> str:
        return self.label


def machine_files(
    build: str, placed: Sequence[Placed], meshes: Sequence[Mesh], labels: Sequence[str], *, process: Process, machine: Machine
) -> MachineFiles:
    """Slice placed bodies and write the files.

    Parameters
    ----------
    build
        The build-id.
    placed
        Parts, then supports.
    meshes, labels
        Of each body: on the plate, and its name in the files.

    Raises
    ------
    MachineError
        A body cannot be sliced, or a file reads back wrong.
    """
    layers = slice_parts(meshes, process.layer_mm)
    parts = sum(one.kind == "part" for one in placed)
    drawn_cli, drawing_s = draw(layers, labels, process, parts=parts)
    blocks = [one.user_data(label) for one, label in zip(placed, labels, strict=True)]
    layers_cli = with_medical(drawn_cli, [block for block in blocks if block])
    written, plate_3mf = beside(
        partial(read_cli, layers_cli), lambda: _plate(build, placed, labels, process, thumbnail_png(layers))
    )
    _reread(placed, meshes, labels, written, plate_3mf, process, machine)
    guess = estimate(
        process,
        layers=layers.count,
        volume_mm3=sum(volume_mm3(mesh) for mesh in meshes[:parts]),
        support_mm3=sum(one.support.volume_mm3 for one in placed[parts:]),
        scanned_s=float(drawing_s.sum()) if process.scan else None,
    )
    images = _images(layers, process, machine, guess.seconds)
    return MachineFiles(plate_3mf, layers_cli, images, guess, layer_pictures(written))


def no_images(process: Process, machine: Machine) -> str:
    """What is to be said where a mask shows the layers and no file can hold them; else ""."""
    if process.kind != "vat" or machine.mask is not None:
        return ""
    return f"no images of layers: the profile of {machine.name} has no mask; let its own preparation make them of plate.3mf"


def _images(layers: Layers, process: Process, machine: Machine, seconds: float) -> bytes:
    if process.kind != "vat" or machine.mask is None:
        return b""
    images = write_sl1(layers, machine.mask, name=process.name, seconds=seconds)
    refuse_failed(image_findings(images, layers, machine.mask))
    return images


def _plate(build: str, placed: Sequence[Placed], labels: Sequence[str], process: Process, thumbnail: bytes) -> bytes:
    items = [Item(label, one.own, one.pose) for one, label in zip(placed, labels, strict=True)]
    kept = {
        "build": build,
        "process": process.name,
        "layer_mm": process.layer_mm,
        "parts": [
            {"label": label, "job": one.job.manifest.job, "kind": one.kind, "part": one.part}
            for one, label in zip(placed, labels, strict=True)
        ],
    }
    return write_3mf(
        items,
        title=f"build {build}",
        notes={"frame": _FRAME, "build": build},
        manifest=json.dumps(kept, indent=1).encode(),
        thumbnail=thumbnail,
    )


def _reread(
    placed: Sequence[Placed],
    meshes: Sequence[Mesh],
    labels: Sequence[str],
    written: CliFile,
    plate_3mf: bytes,
    process: Process,
    machine: Machine,
) -> None:
    """Measure both files against the meshes, as those of a single job are."""
    parts, placements, supports = [], [], []
    for one, mesh, label in zip(placed, meshes, labels, strict=True):
        if one.kind == "part":
            parts.append(Part(label, one.own, np.zeros(len(mesh.faces), dtype=np.int16), ("all",)))
            placements.append(Placement(label, one.pose, ""))
        else:
            said = one.support
            kinds = tuple(said.kind.split(", "))
            supports.append(_Labelled(label, kinds, mesh, said.volume_mm3, said.contact_mm2, said.bodies, label))
    read_back(
        parts,
        placements,
        supports=supports,
        written=written,
        plate_3mf=plate_3mf,
        process=process,
        machine=machine,
    )

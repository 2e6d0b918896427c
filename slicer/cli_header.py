"""The header of a CLI 2.0 file, and in it the block of user data for medical applications (appendix B of the specification)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from batchone.pipeline.errors import MachineError
from batchone.pipeline.process import REGIONS, Region
from batchone.pipeline.values import Vector

SHORT_UNIT_MM: Final = 0.005  # unsigned 16-bit coordinates then reach 327.675 mm; the finest common unit that holds a plate
LONG_UNIT_MM: Final = 1.0  # float32 coordinates, or decimals, in mm
USER: Final = "batchone-medical"  # the block follows appendix B; its uid says who wrote it
KEYWORDS: Final = (
    "institution-id", "source-id", "patient-id", "study-id", "examination-date", "slice-thickness", "matrix-size", "pixel-size",
    "gantry-tilt", "front-vector", "head-vector",
)  # fmt: skip
MAX_HEADER_BYTES: Final = 262_144  # a line or two for each part; more is not ours
_NUMBER = r"-?\d+\.\d+"
_TOP: Final = re.compile(rf"\$\$HEADERSTART\n\$\$(?P<form>BINARY|ASCII)\n\$\$UNITS/(?P<unit>{_NUMBER})\n\$\$VERSION/200\n")
_USER: Final = re.compile(rf'\$\$USERDATA/"{USER}",(\d{{1,5}}),')
_REST: Final = re.compile(
    r'(?P<labels>(?:\$\$LABEL/\d{1,5},"[A-Za-z0-9 ._-]{1,96}"\n)+)'
    rf"\$\$DIMENSION/(?P<box>{_NUMBER}(?:,{_NUMBER}){{5}})\n"
    r"\$\$LAYERS/(?P<layers>\d{1,7})\n\$\$HEADEREND"
)
_LABEL: Final = re.compile(r'\$\$LABEL/(\d+),"([^"]+)"\n')
_TEXT: Final = re.compile(r"[ !#%-~]{1,200}")  # printable, no quote and nothing that begins a command


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a layer file says.

    Attributes
    ----------
    binary
        Geometry in commands of bytes, else as text.
    unit_mm
        mm per unit of the file.
    labels
        Of bodies, then of what a laser draws of them; id i of polylines and hatches is that of ``labels[i - 1]``.
    box_mm
        ``$$DIMENSION``: lower and upper corner, mm.
    layers
        ``$$LAYERS``.
    medical
        Of each part that says so, the user data by keyword.
    """

    binary: bool
    unit_mm: float
    labels: tuple[str, ...]
    box_mm: tuple[Vector, Vector]
    layers: int
    medical: tuple[Mapping[str, str], ...] = ()

    def to_bytes(self) -> bytes:
        """From ``$$HEADERSTART`` to ``$$HEADEREND``, no newline after it."""
        lines = ["$$HEADERSTART", "$$BINARY" if self.binary else "$$ASCII", f"$$UNITS/{self.unit_mm:.6f}", "$$VERSION/200"]
        for one in self.medical:
            data = (
                "".join(f"{key}={one[key]}\0" for key in KEYWORDS if key in one) + "\n"
            )  # up to the byte before the next command
            lines.append(f'$$USERDATA/"{USER}",{len(data)},{data[:-1]}')
        lines += [f'$$LABEL/{i},"{written_label(name)}"' for i, name in enumerate(self.labels, start=1)]
        corners = ",".join(f"{value:.6f}" for corner in self.box_mm for value in corner)
        lines += [f"$$DIMENSION/{corners}", f"$$LAYERS/{self.layers}", "$$HEADEREND"]
        return "\n".join(lines).encode("ascii")


def region_label(body: str, region: Region) -> str:
    """The label of what a laser draws of a body."""
    return f"{label_text(body)} {region}"


def region_of(label: str) -> Region | None:
    """The region that a label is of, None of a body's."""
    return next((region for region in REGIONS if label.endswith(f" {region}")), None)


def label_text(name: str) -> str:
    """A part name as a CLI label holds it: printable ASCII without quotes or slashes, at most 80 characters."""
    return re.sub(r"[^A-Za-z0-9 ._-]", "_", name)[:80] or "_"


def written_label(name: str) -> str:
    """A label, of a body or of what is drawn of it, as the file holds it."""
    region = region_of(name)
    return label_text(name) if region is None else region_label(name.removesuffix(f" {region}"), region)


def medical(items: Mapping[str, str]) -> Mapping[str, str]:
    """User data of one part, its texts as the file can hold them.

    Raises
    ------
    ValueError
        A keyword that the specification does not know.
    """
    unknown = sorted(set(items) - set(KEYWORDS))
    if unknown:
        raise ValueError(f"no keywords of the medical user data: {', '.join(unknown)}")
    return {key: re.sub(r"[^ !#%-~]", "_", items[key])[:200] or "_" for key in KEYWORDS if key in items}


def with_medical(data: bytes, blocks: Sequence[Mapping[str, str]]) -> bytes:
    """The same file with other user data.

    Raises
    ------
    MachineError
        The file has no header of ours.
    """
    header, at = read_header(data)
    return b"".join((replace(header, medical=tuple(map(medical, blocks))).to_bytes(), memoryview(data)[at:]))


def read_header(data: bytes) -> tuple[Header, int]:
    """Header, and where the geometry begins.

    Raises
    ------
    MachineError
        It is none, or says what cannot be.
    """
    text = data[:MAX_HEADER_BYTES].decode("latin-1")
    top = _TOP.match(text)
    if top is None:
        raise damaged("the header is not that of a CLI 2.0 file with units, labels, dimension and layer count")
    at, blocks = top.end(), []
    while (user := _USER.match(text, at)) is not None:
        at = user.end() + int(user[1])
        blocks.append(_items(text[user.end() : at]))
    rest = _REST.match(text, at)
    if rest is None:
        raise damaged("the header is not that of a CLI 2.0 file with units, labels, dimension and layer count")
    labels = _LABEL.findall(rest["labels"])
    if [int(number) for number, _ in labels] != list(range(1, len(labels) + 1)):
        raise damaged("labels are not numbered 1, 2, 3...")
    numbers = [float(value) for value in rest["box"].split(",")]
    if not np.isfinite(numbers).all() or not (np.array(numbers[:3]) < np.array(numbers[3:])).all():
        raise damaged("$$DIMENSION is no box")
    box = (numbers[0], numbers[1], numbers[2]), (numbers[3], numbers[4], numbers[5])
    names = tuple(name for _, name in labels)
    return Header(top["form"] == "BINARY", float(top["unit"]), names, box, int(rest["layers"]), tuple(blocks)), rest.end()


def damaged(what: str) -> MachineError:
    """The error of a layer file that is refused."""
    return MachineError(f"layer file (CLI) refused: {what}", hint="write the layers again, or ask for the file again")


def _items(block: str) -> Mapping[str, str]:
    items = dict(item.partition("=")[::2] for item in block.removesuffix("\n").split("\0")[:-1])
    sound = block.endswith("\0\n") and set(items) <= set(KEYWORDS) and all(_TEXT.fullmatch(value) for value in items.values())
    if not sound:
        raise damaged("user data are not those of appendix B")
    return items

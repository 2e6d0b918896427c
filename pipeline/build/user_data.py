"""What the layer file of a build says of each patient's scan: the block of its job, turned as the part lies on the plate."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from batchone.pipeline.build.manifest import Instance
from batchone.pipeline.job.manifest import JobManifest
from batchone.pipeline.job.medical import SOURCE, how_it_lies
from batchone.pipeline.values import FloatArray
from batchone.slicer.cli_header import read_header

_VECTOR: Final = re.compile(r"\((-?\d\.\d{6}),(-?\d\.\d{6}),(-?\d\.\d{6})\)")
_OFF: Final = 5e-6  # vectors and transforms hold 1e-6

UserData = Mapping[str, str]


def user_data_by_part(layers_cli: bytes) -> dict[str, UserData]:
    """The blocks in the layer file of a job; parts that have none are left out.

    Raises
    ------
    MachineError
        The file has no header of ours.
    """
    blocks = read_header(layers_cli)[0].medical
    return {one["source-id"].removeprefix(f"{SOURCE} "): one for one in blocks if "source-id" in one}


def on_plate(said: UserData, label: str, pose: FloatArray) -> dict[str, str]:
    """The block of a part under its label, as its patient lies after ``pose``, from patient LPS to the plate's frame."""
    return {**said, "source-id": f"{SOURCE} {label}", **how_it_lies(pose[:3, :3])}


def header_faults(layers_cli: bytes, instances: Sequence[Instance]) -> list[str]:
    """Where the blocks in the file are not those that ``build.json`` names.

    Raises
    ------
    MachineError
        The file has no header of ours.
    """
    held = [dict(one) for one in read_header(layers_cli)[0].medical]
    wanted = [one.user_data for one in instances if one.user_data]
    if len(held) != len(wanted):
        return [f"{len(held)} blocks of user data, must be {len(wanted)}"]
    return [
        f"user data of {have.get('source-id', 'nobody')} are not those of {must.get('source-id', 'nobody')}"
        for have, must in zip(held, wanted, strict=True)
        if have != must
    ]


def job_faults(one: Instance, job: JobManifest) -> list[str]:
    """Where the block of a part names another case, scan or body, or another way to lie, than its job and its transform."""
    if not one.user_data:
        return []
    faults = []
    for key, must in (
        ("source-id", f"{SOURCE} {one.label}"),
        ("patient-id", job.case),
        ("study-id", job.scan_sources_digest[:16]),
    ):
        if one.user_data.get(key) != must:
            faults.append(f"{key} of its user data is {one.user_data.get(key)}, must be {must}")
    for key, must in how_it_lies(np.array(one.transform)[:3, :3]).items():
        off = np.abs(_vector(one.user_data.get(key, "")) - _vector(must)).max()
        if not off <= _OFF:
            faults.append(f"{key} of its user data is {one.user_data.get(key)}, must be {must}")
    return faults


def _vector(text: str) -> FloatArray:
    found = _VECTOR.fullmatch(text)
    return np.full(3, np.nan) if found is None else np.array([float(value) for value in found.groups()])

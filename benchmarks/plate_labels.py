"""What a plate of engraved guides says of its parts, and whether ``batchone verify`` finds a part removed or exchanged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from batchone.design.guide.label import LABEL, letters_mm
from batchone.design.lettering.picture import pictured
from batchone.design.lettering.reading import read
from batchone.pipeline.build.manifest import Instance, read_build_manifest
from batchone.pipeline.build.map_picture import map_png
from batchone.pipeline.build.released import engraved
from batchone.pipeline.job.archive import threemf_bodies
from batchone.pipeline.job.manifest import JobManifest, read_manifest
from batchone.pipeline.job.signature import RELEASE, SiteKey, release_key, sign
from batchone.pipeline.job.sums import sha256, sums_bytes
from batchone.pipeline.values import Mesh, Part
from batchone.slicer.clearances import shadow, solid_of
from batchone.slicer.cli_format import read_cli, write_cli
from batchone.slicer.cli_header import read_header, region_of, with_medical
from batchone.slicer.profiles import load_machine, load_process
from batchone.slicer.threemf import Item, write_3mf

Faces = Mapping[tuple[str, str], np.ndarray]  # case, part -> (m,) which triangles of the part are those of its letters


@dataclass(frozen=True)
class Change:
    """What is done to a copy of the build, all files sealed anew with the site's key."""

    what: str
    make: Callable[[Path], None]


def agreeing(build: Path, jobs: Sequence[Path], letters: Faces) -> int:
    """How many instances say the same of their part in the map, build.json, job.json and their engraving; prints the others.

    The engraving is read from each body of plate.3mf and must begin with the case code of the job, then name the part and
    which it is of how many; blanks are not read. The map is drawn again with what was read, and must come out as it is.
    """
    manifest, process = read_build_manifest((build / "build.json").read_bytes()), load_process("pa12-sls")
    of_job = {one.job: one for one in (read_manifest((job / "job.json").read_bytes()) for job in jobs)}
    bodies = {body.name: body for body in threemf_bodies((build / "plate.3mf").read_bytes())}
    shadows, said = [], []
    for one in manifest.instances:
        body = bodies[one.label]
        lying = Mesh(body.vertices_mm, body.triangles.astype(np.int32)).moved(body.pose)
        shadows.append(shadow([solid_of(lying)]))
        part = Part(one.part, lying, letters[one.case, one.part].astype(np.int16), ("body", LABEL))
        picture = pictured(part, LABEL, height_mm=letters_mm(process))
        said.append("" if picture is None else "".join(read(picture).lines))
    right = [_same(one, text, of_job[one.job]) for one, text in zip(manifest.instances, said, strict=True)]
    drawn = [
        one.model_copy(update={"engraved": one.engraved if _solid(one.engraved) == text else text})
        for one, text in zip(manifest.instances, said, strict=True)
    ]
    again = map_png(manifest.model_copy(update={"instances": tuple(drawn)}), shadows, load_machine(manifest.machine))
    mapped = again == (build / "map.png").read_bytes()
    for one, text, fine in zip(manifest.instances, said, right, strict=True):
        if not fine:
            print(f'  {one.label}: "{text}" is read, build.json says "{one.engraved}"')
    if not mapped:
        print("  the map is not that of what was read")
    return sum(right) if mapped else 0


def _same(one: Instance, read_text: str, job: JobManifest) -> bool:
    names = [part.name for part in job.parts]
    level = one.part.removeprefix("guide-")
    meant = f"{job.case}{level}{names.index(one.part) + 1}of{len(names)}"
    told = engraved(job, one.part)
    return (one.case, one.engraved) == (job.case, told) and read_text == _solid(told) and read_text.startswith(meant)


def _solid(text: str) -> str:
    return text.replace(" / ", "").replace(" ", "")


def missed(build: Path, keys: Path, place: Path) -> int:
    """Verify the build and changed copies of it, print seconds and verdicts; how many came out wrong."""
    found, seconds, faults = _verified(build, keys)
    print(f"batchone verify: {seconds:.1f} s, {'ok' if found else 'not ok'}{_first(faults)}")
    wrong = int(not found)
    one, other = _alike(read_build_manifest((build / "build.json").read_bytes()).instances)
    last = read_build_manifest((build / "build.json").read_bytes()).instances[-1].label
    for change in (
        Change(f"{last} removed from plate.3mf", lambda copy: _plate(copy, lambda items: items[:-1])),
        Change(f"{last} removed from plate.3mf, layers.cli and build.json", lambda copy: _remove(copy, last)),
        Change(f"{one} and {other} swapped in plate.3mf", lambda copy: _plate(copy, _named({one: other, other: one}))),
        Change(f"{one} and {other} swapped in all three", lambda copy: _swap(copy, one, other)),
    ):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(build, place)
        change.make(place)
        _seal(place, release_key(keys))
        found, seconds, faults = _verified(place, keys)
        print(f"  {change.what}: {seconds:.1f} s, {'MISSED' if found else 'found'}{_first(faults)}", flush=True)
        wrong += int(found)
    shutil.rmtree(place)
    return wrong


def _first(faults: Sequence[str]) -> str:
    return f", {len(faults)} problems, the first: {faults[0]}" if faults else ""


def _verified(build: Path, keys: Path) -> tuple[bool, float, list[str]]:
    command = [sys.executable, "-m", "batchone.pipeline", "verify", str(build), "--signers", str(keys), "--json"]
    started = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    taken = time.perf_counter() - started
    tree: dict[str, Any] = json.loads(done.stdout)
    if tree["ok"] != (done.returncode == 0):
        raise SystemExit(f"verify says ok: {tree['ok']} and ends with {done.returncode}")
    return tree["ok"], taken, [f"{one['file']}: {one['text']}" for one in tree["problems"]]


def _alike(instances: Sequence[Instance]) -> tuple[str, str]:
    """The same part of two patients whose sizes are nearest."""
    pairs = [
        (abs(one.figures.volume_mm3 - other.figures.volume_mm3), one.label, other.label)
        for k, one in enumerate(instances)
        for other in instances[:k]
        if one.part == other.part and one.case != other.case
    ]
    _, first, second = min(pairs)
    return first, second


def _plate(copy: Path, change: Callable[[list[Item]], list[Item]]) -> None:
    bodies = threemf_bodies((copy / "plate.3mf").read_bytes())
    items = [Item(one.name, Mesh(one.vertices_mm, one.triangles.astype(np.int32)), one.pose) for one in bodies]
    (copy / "plate.3mf").write_bytes(write_3mf(change(items), title="build", notes={}))


def _named(names: Mapping[str, str]) -> Callable[[list[Item]], list[Item]]:
    return lambda items: [replace(item, name=names.get(item.name, item.name)) for item in items]


def _write_tree(copy: Path, tree: object) -> None:
    (copy / "build.json").write_text(json.dumps(tree, sort_keys=True, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _remove(copy: Path, label: str) -> None:
    """Take the last part out of all three files, so that they agree with one another."""
    tree = json.loads((copy / "build.json").read_bytes())
    drawn = [entry for entry in tree["drawn"] if entry["body"] != label]
    _write_tree(copy, {**tree, "instances": tree["instances"][:-1], "drawn": drawn})
    _plate(copy, lambda items: [item for item in items if item.name != label])
    data = (copy / "layers.cli").read_bytes()
    cli, medical = read_cli(data), read_header(data)[0].medical
    kept = [k for k, name in enumerate(cli.labels) if _body(name) != label]
    number = np.full(len(cli.labels), -1, dtype=np.int32)
    number[kept] = np.arange(len(kept))
    layers = cli.layers.of(kept)
    layers = replace(layers, loop_part=number[layers.loop_part])
    old = cli.hatches
    groups, sizes = number[old.part] >= 0, np.diff(old.start)
    hatches = replace(
        old,
        vectors_mm=old.vectors_mm[np.repeat(groups, sizes)],
        start=np.concatenate([[0], np.cumsum(sizes[groups])]).astype(np.int64),
        layer=old.layer[groups],
        part=number[old.part[groups]],
    )
    made = write_cli(layers, [cli.labels[k] for k in kept], hatches)
    (copy / "layers.cli").write_bytes(with_medical(made, medical[:-1]))


def _swap(copy: Path, one: str, other: str) -> None:
    """Each part under the label of the other in all three files, which agree with one another."""
    names = {one: other, other: one}
    tree = json.loads((copy / "build.json").read_bytes())
    by_label = {entry["label"]: entry for entry in tree["instances"]}
    keys = ("transform", "box_low_mm", "box_high_mm", "figures", "mesh_sha256", "layers")
    instances = [
        {**entry, **{key: by_label[names.get(entry["label"], entry["label"])][key] for key in keys}}
        for entry in tree["instances"]
    ]
    drawn = [
        {**entry, "label": _renamed(entry["label"], names), "body": names.get(entry["body"], entry["body"])}
        for entry in tree["drawn"]
    ]
    _write_tree(copy, {**tree, "instances": instances, "drawn": drawn})
    _plate(copy, _named(names))
    data = (copy / "layers.cli").read_bytes()
    cli, medical = read_cli(data), read_header(data)[0].medical
    made = write_cli(cli.layers, [_renamed(name, names) for name in cli.labels], cli.hatches)
    (copy / "layers.cli").write_bytes(with_medical(made, medical))


def _body(label: str) -> str:
    region = region_of(label)
    return label if region is None else label.removesuffix(f" {region}")


def _renamed(label: str, names: Mapping[str, str]) -> str:
    body = _body(label)
    return names.get(body, body) + label[len(body) :]


def _seal(build: Path, key: SiteKey) -> None:
    names = [path.relative_to(build).as_posix() for path in sorted(build.rglob("*")) if path.is_file()]
    sums = sums_bytes({name: sha256((build / name).read_bytes()) for name in names if not name.startswith("SHA256SUMS")})
    (build / "SHA256SUMS").write_bytes(sums)
    (build / "SHA256SUMS.sig").write_text(sign(key, sums, namespace=RELEASE))

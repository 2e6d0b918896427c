"""``sbom.cdx.json``: the software that made a job, as a CycloneDX 1.6 bill of materials, each distribution by its digest.

It holds no time and no random number: the same installation gives the same bytes. The digest of a distribution is that of the
lines ``path,hash`` of its RECORD, sorted, without what the installer adds; of batchone itself, those of its files as they lie.
"""

from __future__ import annotations

import base64
import csv
import json
import platform
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from batchone.pipeline.job.manifest import canonical_json
from batchone.pipeline.job.sums import sha256

SBOM: Final = "sbom.cdx.json"
MEDIA_TYPE: Final = "application/vnd.cyclonedx+json"
_OWN, _EXTRA, _PYTHON = "batchone", "site", "python"
_PACKAGES: Final = ("design", "factory", "pipeline", "samples", "segment", "slicer")
_INSTALLERS: Final = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")  # what pip and others write beside the files
_PROPERTY: Final = "batchone:files_sha256"


@lru_cache
def sbom(names: tuple[str, ...]) -> bytes:
    """The bill of what is installed here of batchone, of the distributions ``names``, and of all that these want."""
    found = _closure((_OWN, *names))
    own = found.pop(_OWN, ("", frozenset()))
    components = [_component(name, version) for name, (version, _) in sorted(found.items())]
    runs = {"bom-ref": _PYTHON, "type": "platform", "name": _PYTHON, "version": platform.python_version()}
    wants = {_OWN: own[1] | {_PYTHON}} | {name: wanted for name, (_, wanted) in found.items()}
    return canonical_json(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {"component": {**_named(_OWN, own[0], list(_own_lines())), "type": "application"}},
            "components": [runs, *components],
            "dependencies": [{"ref": name, "dependsOn": sorted(wanted)} for name, wanted in sorted(wants.items())],
        }
    )


def sbom_faults(data: bytes, versions: Mapping[str, str]) -> tuple[str, ...]:
    """What is wrong with a bill; nothing when it is one, and names every version that ``job.json`` names."""
    try:
        tree = json.loads(data)
        listed = [tree["metadata"]["component"], *tree["components"]]
        told = {_plain(str(one["name"])): str(one["version"]) for one in listed}
        known = (tree["bomFormat"], tree["specVersion"]) == ("CycloneDX", "1.6") and canonical_json(tree) == data
    except (ValueError, KeyError, TypeError, RecursionError):
        known, told = False, {}
    if not known:
        return ("it is no CycloneDX 1.6 bill in its canonical spelling",)
    wanted = {_plain(name): version for name, version in versions.items()}
    names = sorted(_plain(str(one["name"])) for one in listed)
    twice = [f"{name} is listed more than once" for name in sorted(set(names)) if names.count(name) > 1]
    told_of = [(str(one["name"]), _digests(one)) for one in listed]
    wrong = [f"{name} has no sound digest of its files" for name, digests in told_of if not all(map(_is_sound, digests))]
    if not told_of[0][1]:
        wrong.append(f"{told_of[0][0]} has no digest of its files")
    other = [
        f"{name} is {told.get(name, 'missing')}, job.json says {version}"
        for name, version in sorted(wanted.items())
        if told.get(name) != version
    ]
    return (*twice, *wrong, *other)


def _digests(component: Mapping[str, Any]) -> list[object]:
    """The digests that a component tells of its files."""
    told = component.get("properties", [])
    listed = told if isinstance(told, list) else []
    return [one.get("value") for one in listed if isinstance(one, dict) and one.get("name") == _PROPERTY]


def _is_sound(digest: object) -> bool:
    return isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) is not None and digest != sha256(b"")


def _closure(roots: Iterable[str]) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and requirements of each distribution that is wanted and installed, by its plain name."""
    from packaging.requirements import Requirement

    found: dict[str, tuple[str, frozenset[str]]] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(_plain(name), extra) for name in roots for extra in ("", _EXTRA if _plain(name) == _OWN else "")]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        wanted = set()
        for requirement in map(Requirement, distribution.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                other = _plain(requirement.name)
                wanted.add(other)
                todo += [(other, "")] + [(other, one) for one in requirement.extras]
        version, known = found.get(name, (distribution.version, frozenset()))
        found[name] = version, known | wanted
    return {name: (version, frozenset(wanted & found.keys())) for name, (version, wanted) in found.items()}


def _component(name: str, version: str) -> dict[str, Any]:
    distribution = metadata.distribution(name)
    tree = _named(name, version, list(_recorded(distribution.read_text("RECORD") or ""))) | {"type": "library"}
    licences = distribution.metadata.get_all("License-Expression") or []
    return tree | ({"licenses": [{"expression": licences[0]}]} if licences else {})


def _named(name: str, version: str, lines: Collection[str]) -> dict[str, Any]:
    """A component; without a digest where nothing says what its files are."""
    digest = sha256("".join(f"{line}\n" for line in sorted(lines)).encode())
    tree: dict[str, Any] = {"bom-ref": name, "name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}"}
    return tree | ({"properties": [{"name": _PROPERTY, "value": digest}]} if lines else {})


def _recorded(record: str) -> Iterator[str]:
    for path, digest, *_ in csv.reader(record.splitlines()):
        inside = not path.startswith(("..", "/")) and not path.endswith(".pyc")
        if inside and digest and Path(path).name not in _INSTALLERS:
            yield f"{path},{digest}"


def _own_lines() -> Iterator[str]:
    """The files of batchone as RECORD would list them."""
    root = Path(__file__).parents[2]
    for path in (path for package in _PACKAGES for path in (root / package).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest = base64.urlsafe_b64encode(bytes.fromhex(sha256(path.read_bytes()))).rstrip(b"=").decode("ascii")
            yield f"{_OWN}/{path.relative_to(root).as_posix()},sha256={digest}"


def _plain(name: str) -> str:
    """The name of a distribution as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()

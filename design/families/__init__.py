"""The device families, one file each."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points, version

from batchone.design.families.anatomical_model import ANATOMICAL_MODEL
from batchone.design.families.cranial_implant import CRANIAL_IMPLANT
from batchone.design.families.osteotomy_guide import OSTEOTOMY_GUIDE
from batchone.design.families.pedicle_guide import PEDICLE_GUIDE
from batchone.design.family import Family
from batchone.pipeline.errors import MachineError

ALL = (ANATOMICAL_MODEL, CRANIAL_IMPLANT, OSTEOTOMY_GUIDE, PEDICLE_GUIDE)

GROUP, SHIPPED = "batchone.devices", "batchone"


@lru_cache(maxsize=1)
def load_families() -> dict[str, Family]:
    """Return every installed family by name: the shipped ones, then those of the entry-point group ``batchone.devices``.

    Raises
    ------
    MachineError
        Two different families have one name, or an entry point does not lead to a family of its name.
    """
    return merged_families(ALL, tuple((entry.name, _loaded(entry)) for entry in sorted(entry_points(group=GROUP))))


def package_of(name: str) -> tuple[str, str]:
    """Name and version of the installed package whose code a family is."""
    for entry in entry_points(group=GROUP):
        if entry.name == name and entry.dist is not None:
            return entry.dist.name, entry.dist.version
    return SHIPPED, version(SHIPPED)


def packages() -> frozenset[tuple[str, str]]:
    """Name and version of every installed package whose code makes devices, as the disk has them now.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        The product's own is just being replaced.
    """
    of_others = (entry.dist for entry in entry_points(group=GROUP))
    return frozenset({(SHIPPED, version(SHIPPED)), *((dist.name, dist.version) for dist in of_others if dist is not None)})


def _loaded(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise MachineError(
            f"entry point {GROUP}:{entry.name} leads to {entry.value}, which cannot be loaded: {error}",
            hint="correct or remove the package that declares it",
        ) from error


def merged_families(shipped: tuple[Family, ...], installed: tuple[tuple[str, object], ...]) -> dict[str, Family]:
    """Join shipped families with ``installed`` (entry-point name, object) pairs.

    Raises
    ------
    MachineError
        Two different families have one name, or an object is no family of its entry point's name.
    """
    families = {family.name: family for family in shipped}
    for name, found in installed:
        if not isinstance(found, Family) or found.name != name:
            raise MachineError(
                f"entry point {GROUP}:{name} gives {type(found).__name__}, must give a Family named {name}",
                hint="correct or remove the package that declares it",
            )
        if families.setdefault(name, found) is not found:
            raise MachineError(
                f"device family {name} is declared by 2 packages, must be 1", hint="remove one of the packages that declare it"
            )
    return families

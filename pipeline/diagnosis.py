"""``batchone doctor``: are the libraries there, and are the kernels compiled?"""

from __future__ import annotations

import importlib
import pkgutil
import re
import shutil
import subprocess
import time

from batchone.pipeline.program import SLICING_PROGRAM

SYSTEM = {"cadquery": "libgl1 libx11-6"}
_NEEDED = ("numba", "SimpleITK", "vtkmodules.vtkFiltersCore", "manifold3d", "embreex", "lib3mf", "typst", "highdicom", "cadquery")
_PROGRAM_S = 30.0  # numerical: it says its version at once


def diagnose(*, warm: bool) -> tuple[list[str], bool]:
    """Import what the stages need; with ``warm`` also compile the kernels into the cache.

    Returns
    -------
    lines, healthy
        One line per library; False when one is missing.
    """
    lines, healthy = [], True
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            healthy = False
            packages = SYSTEM.get(name)
            hint = f"apt-get install {packages}" if packages else "pip install 'batchone[site]'"
            lines.append(f"{name}: missing ({error}); {hint}")
        else:
            lines.append(f"{name}: ok")
    lines.append(_slicing_program())
    if warm and healthy:
        started = time.perf_counter()
        for package in ("segment", "design", "slicer", "samples", "pipeline.job"):
            for module in pkgutil.walk_packages(importlib.import_module(f"batchone.{package}").__path__, f"batchone.{package}."):
                importlib.import_module(module.name)
        lines.append(f"kernels: ready ({time.perf_counter() - started:.1f} s)")
    return lines, healthy


def _slicing_program() -> str:
    """Whether the program for FFF is there, and its version; without it all other processes work."""
    path = shutil.which(SLICING_PROGRAM)
    if path is None:
        return f"{SLICING_PROGRAM}: not there; for FFF: apt-get install {SLICING_PROGRAM}"
    try:
        said = subprocess.run([path, "--help"], capture_output=True, timeout=_PROGRAM_S, check=False).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{SLICING_PROGRAM}: does not start ({error}); for FFF: apt-get install {SLICING_PROGRAM}"
    version = re.search(rb"PrusaSlicer-(\d[\w.]*)", said)
    return f"{SLICING_PROGRAM}: ok ({version[1].decode() if version else 'version unknown'})"

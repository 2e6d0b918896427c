"""``batchone doctor``: are the libraries and programs there, and are the kernels compiled?"""

from __future__ import annotations

import importlib
import pkgutil
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import Literal

from batchone.pipeline.program import SLICING_PROGRAM

SYSTEM = {"cadquery": "libgl1 libx11-6"}
_NEEDED = ("numba", "SimpleITK", "vtkmodules.vtkFiltersCore", "manifold3d", "embreex", "lib3mf", "typst", "highdicom", "cadquery")
_PROGRAM_S = 30.0  # numerical: it says its version at once


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what it is, how it is, in words, and what to do where it is not well."""

    name: str
    state: Literal["ok", "warn", "broken"]
    text: str
    hint: str = ""

    @property
    def line(self) -> str:
        """What a person reads."""
        return f"{self.name}: {self.text}" + (f"; {self.hint}" if self.hint else "")


def diagnose(*, warm: bool) -> tuple[Check, ...]:
    """Import what the stages need; with ``warm`` also compile the kernels into the cache."""
    checks = [_library(name) for name in _NEEDED]
    healthy = all(check.state == "ok" for check in checks)
    checks.append(_slicing_program())
    if warm and healthy:
        started = time.perf_counter()
        for package in ("segment", "design", "slicer", "samples", "pipeline.job"):
            for module in pkgutil.walk_packages(importlib.import_module(f"batchone.{package}").__path__, f"batchone.{package}."):
                importlib.import_module(module.name)
        checks.append(Check("kernels", "ok", f"ready ({time.perf_counter() - started:.1f} s)"))
    return tuple(checks)


def _library(name: str) -> Check:
    try:
        importlib.import_module(name)
    except ImportError as error:
        packages = SYSTEM.get(name)
        hint = f"apt-get install {packages}" if packages else "pip install 'batchone[site]'"
        return Check(name, "broken", f"missing ({error})", hint)
    return Check(name, "ok", "ok")


def _slicing_program() -> Check:
    """Whether the program for FFF is there, and its version; without it all other processes work."""
    path, hint = shutil.which(SLICING_PROGRAM), f"for FFF: apt-get install {SLICING_PROGRAM}"
    if path is None:
        return Check(SLICING_PROGRAM, "warn", "not there", hint)
    try:
        said = subprocess.run([path, "--help"], capture_output=True, timeout=_PROGRAM_S, check=False).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(SLICING_PROGRAM, "warn", f"does not start ({error})", hint)
    version = re.search(rb"PrusaSlicer-(\d[\w.]*)", said)
    return Check(SLICING_PROGRAM, "ok", f"ok ({version[1].decode() if version else 'version unknown'})")

"""A toolpath that a foreign program made, as a value of a build."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Toolpath:
    """G-code without clocks, the program that made it, and the SHA-256 of the configuration that it was given."""

    gcode: bytes
    program: str
    config_sha256: str

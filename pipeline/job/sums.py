"""``SHA256SUMS``: the list of all files of a job folder, as stock ``sha256sum -c`` reads it."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

from pydantic import Field

from batchone.pipeline.errors import MachineError

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # SHA-256 in lower-case hexadecimal

SUMS = "SHA256SUMS"
SUMS_SIGNATURE = "SHA256SUMS.sig"
PRINTED_FROM = (".3mf", ".stl", ".step", ".cli", ".gcode", ".sl1")  # how files end that a machine may be given
UNLISTED = frozenset({SUMS, SUMS_SIGNATURE})

_LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<name>[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*)")
MAX_FILES = 2_000  # a job folder has about forty


def sha256(data: bytes) -> str:
    """SHA-256 in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sums_bytes(digests: dict[str, str]) -> bytes:
    """Write the list: ``digest  relative/path``, sorted by path in code points, LF."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode("ascii")


def read_sums(data: bytes) -> dict[str, str]:
    """Read the list; only the one canonical spelling is taken.

    Raises
    ------
    MachineError
        A line that is not understood, a path that leads outside, too many files, or not canonical.
    """
    lines = data.decode("ascii", errors="replace").split("\n")
    if len(lines) > MAX_FILES:
        raise MachineError(f"{SUMS} lists {len(lines)} files, at most {MAX_FILES}")
    matches = [_LINE.fullmatch(line) for line in lines[:-1]]
    digests = {match["name"]: match["digest"] for match in matches if match}
    if sums_bytes(digests) != data or not digests:
        raise MachineError(f"{SUMS} is not in its canonical spelling", hint="fetch the job folder again")
    return digests

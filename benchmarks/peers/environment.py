"""An environment of their own for peers that cannot live beside ours (LGPL, built from source), made when it is first asked for.

The interpreter is the one that asks; where its version cannot install a peer, the reason is told instead.
"""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "build" / "peers"


@lru_cache(maxsize=8)
def interpreter(package: str) -> tuple[Path | None, str]:
    """Python that has a package, or None and why it has not."""
    python = FOLDER / f"{sys.version_info[0]}.{sys.version_info[1]}-{package.lower()}" / "bin" / "python"
    if python.exists():
        return python, ""
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(python.parents[1])], check=True)
    done = subprocess.run([str(python), "-m", "pip", "install", "--quiet", package], capture_output=True, text=True)
    if done.returncode == 0:
        return python, ""
    python.unlink()
    version = ".".join(map(str, sys.version_info[:3]))
    return None, f"cannot be installed on Python {version}: {(done.stderr.strip().splitlines() or [''])[-1][:90]}"

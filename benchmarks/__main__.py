"""``make bench``: the truth benches (implants, surfaces, their bound), then reading a series and each stage beside the peers."""

from __future__ import annotations

import subprocess
import sys

if __name__ == "__main__":
    for name in ("truth", "surface", "coverage", "tilt", "intake", "speed"):
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False)

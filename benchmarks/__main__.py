"""``make bench``: the truth bench, bones apart, then reading a series and each stage beside the peers."""

from __future__ import annotations

import subprocess
import sys

if __name__ == "__main__":
    for name in ("truth", "tilt", "apart", "segmentation", "intake", "speed"):
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False)

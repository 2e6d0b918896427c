"""``make bench``: the truth benches (implants, tilt, bones, surfaces, their bound, guides), then speed beside the peers."""

from __future__ import annotations

import subprocess
import sys

if __name__ == "__main__":
    for name in ("truth", "tilt", "apart", "surface", "coverage", "guide_truth", "segmentation", "intake", "speed", "guide"):
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False)

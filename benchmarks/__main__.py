"""``make bench``: what is true (implants, tilt, bones, surfaces, bounds, guides, seats, layers), then speed beside the peers."""

from __future__ import annotations

import subprocess
import sys

if __name__ == "__main__":
    truth = ("truth", "tilt", "apart", "surface", "coverage", "guide_truth", "seating", "layers")
    for name in (*truth, "segmentation", "intake", "speed", "slicing", "orientation", "nesting", "fff", "guide", "checks"):
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False)

"""``make bench``: what is true (implants, tilt, bones, guides, seats, layers), then speed beside the peers, then the service."""

from __future__ import annotations

import subprocess
import sys

if __name__ == "__main__":
    truth = ("truth", "tilt", "apart", "surface", "coverage", "guide_truth", "seating", "layers", "tampering")
    speed = ("segmentation", "intake", "speed", "slicing", "orientation", "nesting", "fff", "guide", "checks", "twin")
    for name in (*truth, *speed, "clock", "serve", "storm", "cells"):
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False)

"""``make bench``: what is true (implants, tilt, bones, guides, seats, layers), then speed beside the peers, then the service."""

from __future__ import annotations

import subprocess
import sys

if __name__ == "__main__":
    truth = (
        "truth",
        "tilt",
        "apart",
        "surface",
        "coverage",
        "guide_truth",
        "seating",
        "layers",
        "good_devices",
        "faults",
        "tampering",
    )
    speed = ("segmentation", "intake", "speed", "slicing", "orientation", "nesting", "fff", "guide", "checks", "twin")
    for name in (*truth, *speed, "clock", "serve", "load --cases 8", "storm", "cells"):
        subprocess.run([sys.executable, "-m", *f"benchmarks.{name}".split()], check=False)

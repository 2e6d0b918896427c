"""``make bench``: what is true (implants, tilt, bones, surfaces, their bound, guides, seats), then speed beside the peers."""

from __future__ import annotations

import subprocess
import sys

if __name__ == "__main__":
    truth = ("truth", "tilt", "apart", "surface", "coverage", "guide_truth", "seating")
    for name in (
        *truth,
        "segmentation",
        "intake",
        "speed",
        "slicing",
        "orientation",
        "nesting",
        "fff",
        "guide",
        "checks",
        "clock",
        "serve",
    ):
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False)

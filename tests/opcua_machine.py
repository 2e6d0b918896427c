"""A machine of its own process: serves a twin that prints the builds of a folder. ``python opcua_machine.py URL SHARE SPEED``."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from batchone.factory.twin.machine import Twin
from batchone.factory.twin.opcua import Endpoint, served
from batchone.pipeline.errors import MachineError
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.slicer.profiles import load_machine, load_process

if __name__ == "__main__":
    url, share, speed = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    use_kernel_cache()

    def opened(identifier: str) -> Twin:
        if not (share / identifier).is_dir():
            raise MachineError(f"no build {identifier}")
        return Twin(share / identifier, load_process("ti64-lpbf"), load_machine("sim-01"), seed=3)

    with served(Endpoint(url), machine="lpbf-1", profile="sim-01", open_build=opened, period_s=200.0, speed=speed):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        threading.Event().wait()

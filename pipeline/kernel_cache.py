"""How compiled kernels are kept and run.

They lie in a folder of the user, since an installed package may lie where nobody can write. Their threads sleep between
kernels: on a machine with other work, a thread that spins takes the core that the next kernel waits for (80 times the time of a
small kernel, measured on two busy cores). Products of matrices stay on one core: here they are tall and narrow, for which
OpenBLAS wakes its threads in vain (1.3 million points times a rotation: x2 on quiet cores, x15 on busy ones), and their last
bits must not hang on the number of cores.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path


def use_kernel_cache() -> None:
    """Let numba keep its kernels in ``$XDG_CACHE_HOME/batchone/<version>``, unless ``NUMBA_CACHE_DIR`` says otherwise,
    its threads sleep unless ``OMP_WAIT_POLICY`` does, and OpenBLAS use one core unless ``OPENBLAS_NUM_THREADS`` does.

    Call it before numpy or numba is imported; child processes inherit it.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("NUMBA_CACHE_DIR", str(home / "batchone" / version("batchone")))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

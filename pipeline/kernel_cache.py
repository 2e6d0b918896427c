"""How compiled kernels are kept and run.

They lie in a folder of the user, since an installed package may lie where nobody can write. Their threads sleep between
kernels: on a machine with other work, a thread that spins takes the core that the next kernel waits for (80 times the time of a
small kernel, measured on two busy cores).
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path


def use_kernel_cache() -> None:
    """Let numba keep its kernels in ``$XDG_CACHE_HOME/batchone/<version>``, unless ``NUMBA_CACHE_DIR`` says otherwise,
    and its threads sleep unless ``OMP_WAIT_POLICY`` does.

    Call it before numba is imported; child processes inherit it.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("NUMBA_CACHE_DIR", str(home / "batchone" / version("batchone")))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

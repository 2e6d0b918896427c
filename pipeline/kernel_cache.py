"""Where compiled kernels are kept: a folder of the user, since an installed package may lie where nobody can write."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path


def use_kernel_cache() -> None:
    """Let numba keep its kernels in ``$XDG_CACHE_HOME/batchone/<version>``, unless ``NUMBA_CACHE_DIR`` says otherwise.

    Call it before numba is imported; child processes inherit it.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("NUMBA_CACHE_DIR", str(home / "batchone" / version("batchone")))

"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchone.pipeline.job import key_file
from batchone.pipeline.kernel_cache import use_kernel_cache

use_kernel_cache()
key_file.KDF_ROUNDS = 1  # a key opens in 0.01 s instead of 0.15; subprocesses make theirs as everybody does
os.environ["BATCHONE_APPROVER_PASSPHRASE"] = (
    "one word for all tests"  # of the keys that tests approve with, here and in subprocesses
)
DATA_VARIABLE = "BATCHONE_TEST_DATA"


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real scans and hostile files; unset: skip with that reason; set: a missing file fails."""
    folder = os.environ.get(DATA_VARIABLE)
    if folder is None:
        pytest.skip(f"{DATA_VARIABLE} is not set")
    path = Path(folder)
    assert path.is_dir(), f"{DATA_VARIABLE} names {folder}, which is no folder"
    return path


@pytest.fixture
def postgres_server() -> Iterator[Any]:
    """A PostgreSQL server of the test's own: see ``postgres.py``."""
    import postgres

    with postgres.postgres() as server:
        yield server

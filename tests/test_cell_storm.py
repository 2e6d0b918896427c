"""Two cells under fire make every job once; ``python -m benchmarks.cells`` does it with 200 jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from cell_storm import PROCESS, storm
from small_job import make_job

from batchone.pipeline.job.manifest import read_manifest
from batchone.pipeline.job.signature import KEYS, approval_key, release_key, write_allowed_signers


@pytest.mark.slow
def test_two_cells_that_are_killed_make_every_job_once_and_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHONE_APPROVER_PASSPHRASE", "test-passphrase-1")
    keys, jobs = tmp_path / KEYS, []
    release_key(keys)
    approval_key(keys, "reviewer", passphrase="test-passphrase-1")
    write_allowed_signers(keys)
    for number in range(8):
        make_job(tmp_path / "made", keys, PROCESS, case=f"bench-{number:04d}")
        name = read_manifest((tmp_path / "made" / "job.json").read_bytes()).job
        jobs.append((tmp_path / "made").rename(tmp_path / name))
    (tmp_path / "storm").mkdir()
    seen = storm(tmp_path / "storm", jobs, keys, kills=6, seed=4, speed=100_000.0, within_s=600.0)
    assert seen.wrong == []
    assert seen.kills.total() >= 6
    assert seen.attempts["released"] == len(jobs)
    assert seen.readings == seen.samples > 0
    assert set(seen.restarts) == {"server", "broker", "intake"}

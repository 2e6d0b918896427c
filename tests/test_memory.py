"""Freed memory is kept while a stage runs and handed back between stages."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from batchone.pipeline.memory import give_freed_memory_back, keep_freed_memory

keep_freed_memory()
import numpy as np

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20

def faults_of_ones():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones((100, 2**20), dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

empty_mb = resident_mb()
faults_of_ones()
kept_mb = resident_mb()
again = faults_of_ones()
give_freed_memory_back()
print(empty_mb, kept_mb, resident_mb(), again)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps freed memory")
def test_freed_memory_serves_the_next_array_and_then_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    empty_mb, kept_mb, after_mb, faults = map(float, done.stdout.split())
    assert kept_mb > empty_mb + 95.0
    assert after_mb < empty_mb + 10.0
    assert faults < 50

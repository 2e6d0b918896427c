"""Figures: ours beside the peers, and the truth bench. Benchmarks report, they never judge."""

import os

from batchone.pipeline.job.passphrase import VARIABLE
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.memory import keep_freed_memory

use_kernel_cache()
keep_freed_memory()
os.environ.setdefault(VARIABLE, "one word for all figures")  # of the keys that benchmarks approve with

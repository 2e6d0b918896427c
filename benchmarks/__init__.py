"""Figures: ours beside the peers, and the truth bench. Benchmarks report, they never judge."""

from batchone.pipeline.kernel_cache import use_kernel_cache

use_kernel_cache()

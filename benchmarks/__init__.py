"""Figures: ours beside the peers, and the truth bench. Benchmarks report, they never judge."""

"""Phantom scans with known truth, written as real DICOM series."""

"""Anatomy to Plan to Device to CheckedDevice."""

"""Scan to Anatomy: bones, their surfaces at sub-voxel position, frames and landmarks."""

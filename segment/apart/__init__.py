"""Bones apart without a learned model: canal, discs, minimal cuts in the grey values, and names with their evidence."""

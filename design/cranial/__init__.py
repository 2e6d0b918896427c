"""Cranial implants: the plan (defect, contour, symmetry, way in) and the body."""

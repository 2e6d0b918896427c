"""What a screen needs of a case: its scene as JSON, the scan as NIfTI, surfaces as MZ3, sections as PNG.

All are pure functions of the case's folder. Everything is patient LPS in mm, but for the two files that NiiVue reads (NIfTI and
MZ3): those are RAS, turned where they are written and nowhere else.
"""

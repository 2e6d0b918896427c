"""Anatomical models: region, loose pieces, hollowing, engravings, checks."""

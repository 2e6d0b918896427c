"""Engraved text as it can be seen on a finished part, and what it says."""

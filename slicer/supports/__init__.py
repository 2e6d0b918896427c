"""Supports: what carries a part while it is made, as bodies of their own, and a check of the layers by itself."""

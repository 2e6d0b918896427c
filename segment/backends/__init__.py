"""Who tells the bones apart: the threshold, an external program, or a person."""

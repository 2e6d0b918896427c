"""Ways to a machine, behind one small interface."""

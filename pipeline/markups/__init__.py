"""Plans as 3D Slicer's markups: read into an order, written beside a plan."""

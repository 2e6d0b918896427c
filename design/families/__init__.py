"""The device families, one file each."""

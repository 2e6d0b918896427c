"""CheckedDevice to Build: orientation, layers, files, read back."""

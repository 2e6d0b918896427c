"""The signed job folder: written, re-read, re-measured, verified."""

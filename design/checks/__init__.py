"""Measurements of a device, each judged against its limit."""

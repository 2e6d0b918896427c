"""Good devices, and devices with one seeded fault each: what the checks must find, and what they must let pass."""

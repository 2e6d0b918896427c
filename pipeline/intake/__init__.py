"""From a messy study to one true volume in HU, without the patient's identity."""

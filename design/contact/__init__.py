"""The contact engine: the underside of a device that sits on bone, and the room that the bone needs on the device's way."""

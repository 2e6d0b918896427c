"""What a screen needs of a case: its scene as JSON, the scan as NIfTI, surfaces as MZ3, sections as PNG.

All are pure functions of the case's folder. Everything is patient LPS in mm, but for the two files that NiiVue reads (NIfTI and
MZ3): those are RAS, turned where they are written and nowhere else.
"""

from __future__ import annotations

from batchone.pipeline.serve.scene.describe import scene_description, scene_digest
from batchone.pipeline.serve.scene.sections import section_bytes
from batchone.pipeline.serve.scene.surfaces import surface_bytes
from batchone.pipeline.serve.scene.volume import volume_bytes

__all__ = ["scene_description", "scene_digest", "section_bytes", "surface_bytes", "volume_bytes"]

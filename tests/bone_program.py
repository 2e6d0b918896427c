"""A real program behind the file contract, for the tests: thresholds an image and names what it finds, or misbehaves.

python bone_program.py IMAGE LABELS NAMES [HOW]
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage


def main(image_file: str, labels_file: str, names_file: str, how: str = "well") -> None:
    if how == "fails":
        sys.exit("no model weights")
    if how == "hangs":
        time.sleep(600)
    if how == "eats":
        blocks = [np.ones(20_000_000) for _ in range(20)]
        time.sleep(600 + len(blocks))
    image = nibabel.load(image_file)
    parts, count = ndimage.label(image.get_fdata() > 600)
    sizes = ndimage.sum_labels(parts > 0, parts, range(count + 1))
    found = [n for n in range(1, count + 1) if sizes[n] > 500]
    centres = {n: image.affine @ [*ndimage.center_of_mass(parts == n), 1.0] for n in found}
    labels = np.zeros(parts.shape, dtype=np.uint8)
    names = {}
    spine = sorted((n for n in found if abs(centres[n][0]) < 15), key=lambda n: -centres[n][2])
    for value, n in enumerate([*spine, *(n for n in found if n not in spine)], start=1):
        labels[parts == n] = value
        left = centres[n][0] < 0  # RAS: x to the patient's right
        names[str(value)] = f"vertebrae_L{value}" if n in spine else f"femur_{'left' if left else 'right'}"
    affine = image.affine
    if how == "grid":
        affine = affine @ np.diag([1.0, 1.0, 1.01, 1.0])
    if how == "shape":
        labels = labels[:-1]
    if how == "flipped":  # another order of storage, the same place
        labels, affine = labels[::-1], affine @ np.array([[-1, 0, 0, labels.shape[0] - 1], *np.eye(4)[1:]])
    if how == "mirrored":  # the array turned over and the header left as it was
        labels = labels[::-1]
    if how == "unknown":
        names["2"] = "left_wing"
    if how == "nameless":
        del names["2"]
    if how == "halves":
        labels = labels * np.float32(0.5)
    if how == "empty":
        labels = labels * np.uint8(0)
    if how != "silent":
        nibabel.save(nibabel.Nifti1Image(labels, affine), labels_file)
    version = "9.9" if how == "version" else "1.0"
    text = json.dumps({"name": "bone-program", "version": version, "labels": names})
    Path(names_file).write_text("[" if how == "json" else text)


if __name__ == "__main__":
    main(*sys.argv[1:])

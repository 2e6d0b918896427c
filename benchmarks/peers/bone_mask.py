"""HU volume -> bone mask (threshold, largest component, closing by 2 voxels, filling): scikit-image and SimpleITK.

Usage: python bone_mask.py VARIANT VOLUME.npy THRESHOLD_HU [MASK.npy]   with VARIANT skimage-typical | skimage-best | simpleitk
MASK.npy: another's mask of the same volume; the voxels that differ are counted.
"skimage-best" works in the bounding box of the threshold and closes with a decomposed ball.
Prints one JSON line: name, variant, seconds, voxels, versions.
"""

import json
import sys
import time

import numpy as np


def skimage_typical(hu, threshold_hu):
    from scipy import ndimage
    from skimage import measure, morphology

    labels = measure.label(hu > threshold_hu, connectivity=1)
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    mask = labels == counts.argmax()
    mask = morphology.closing(mask, morphology.ball(2))
    return ndimage.binary_fill_holes(mask)


def skimage_best(hu, threshold_hu):
    where = hu > threshold_hu
    box = []
    for axis in range(3):
        line = np.flatnonzero(where.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(max(line[0] - 3, 0), line[-1] + 4))
    from scipy import ndimage
    from skimage import measure, morphology

    labels = measure.label(where[tuple(box)], connectivity=1)
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    mask = labels == counts.argmax()
    for footprint, times in morphology.ball(2, decomposition="sequence"):
        mask = ndimage.binary_dilation(mask, footprint, iterations=times)
    for footprint, times in morphology.ball(2, decomposition="sequence"):
        mask = ndimage.binary_erosion(mask, footprint, iterations=times, border_value=1)
    whole = np.zeros(hu.shape, dtype=bool)
    whole[tuple(box)] = ndimage.binary_fill_holes(mask)
    return whole


def simpleitk(hu, threshold_hu):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(hu) > threshold_hu
    image = sitk.RelabelComponent(sitk.ConnectedComponent(image), sortByObjectSize=True) == 1
    image = sitk.BinaryMorphologicalClosing(image, [2, 2, 2], sitk.sitkBall)
    return sitk.GetArrayFromImage(sitk.BinaryFillhole(image))


if __name__ == "__main__":
    import skimage
    import SimpleITK

    variant, path, threshold_hu = sys.argv[1], sys.argv[2], int(sys.argv[3])
    hu = np.load(path)
    run = {"skimage-typical": skimage_typical, "skimage-best": skimage_best, "simpleitk": simpleitk}[variant]
    started = time.perf_counter()
    mask = run(hu, threshold_hu)
    seconds = time.perf_counter() - started
    versions = {"scikit-image": skimage.__version__, "SimpleITK": SimpleITK.Version_VersionString(), "numpy": np.__version__}
    voxels = int(np.count_nonzero(mask))
    result = {"name": "bone mask", "variant": variant, "seconds": seconds, "voxels": voxels, "versions": versions}
    if len(sys.argv) > 4 and mask.shape == hu.shape:
        result["different"] = int(np.count_nonzero(mask.astype(bool) != np.load(sys.argv[4])))
    print(json.dumps(result))

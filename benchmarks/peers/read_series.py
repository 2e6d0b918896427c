"""DICOM folder -> HU volume: pydicom (typical float64 loop, best int16 preallocated) and SimpleITK (its series reader).

Usage: python read_series.py VARIANT FOLDER   with VARIANT pydicom-typical | pydicom-best | simpleitk
Prints one JSON line: name, variant, seconds, shape, versions.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np


def pydicom_typical(folder):
    import pydicom

    slices = [pydicom.dcmread(path) for path in sorted(Path(folder).iterdir())]
    slices = [s for s in slices if hasattr(s, "ImagePositionPatient")]
    slices.sort(key=lambda s: float(s.ImagePositionPatient[2]))
    volume = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])
    return volume


def pydicom_best(folder):
    import pydicom

    slices = [pydicom.dcmread(path) for path in Path(folder).iterdir()]
    slices = [s for s in slices if hasattr(s, "ImagePositionPatient")]
    slices.sort(key=lambda s: float(s.ImagePositionPatient[2]))
    first = slices[0]
    volume = np.empty((len(slices), first.Rows, first.Columns), np.int16)
    for k, s in enumerate(slices):
        raw = np.frombuffer(s.PixelData, np.int16 if s.PixelRepresentation else np.uint16).reshape(s.Rows, s.Columns)
        np.multiply(raw, np.int16(s.RescaleSlope), out=volume[k], casting="unsafe")
        volume[k] += np.int16(s.RescaleIntercept)
    return volume


def simpleitk(folder):
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayViewFromImage(reader.Execute())


if __name__ == "__main__":
    import pydicom
    import SimpleITK

    variant, folder = sys.argv[1:3]
    run = {"pydicom-typical": pydicom_typical, "pydicom-best": pydicom_best, "simpleitk": simpleitk}[variant]
    started = time.perf_counter()
    volume = run(folder)
    seconds = time.perf_counter() - started
    versions = {"pydicom": pydicom.__version__, "SimpleITK": SimpleITK.Version_VersionString(), "numpy": np.__version__}
    print(json.dumps({"name": "read series", "variant": variant, "seconds": seconds, "shape": volume.shape, "versions": versions}))

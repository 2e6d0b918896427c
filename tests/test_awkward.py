"""Real awkward studies: each gets its required verdict, for a model and for a cranial implant."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from batchone.design.families import load_families
from batchone.pipeline.errors import SeriesError
from batchone.pipeline.intake.make import admit, intake
from batchone.pipeline.intake.package import open_study
from batchone.pipeline.intake.series import sort_files, stack_images
from batchone.pipeline.intake.straighten import straighten
from batchone.pipeline.intake.volume import read_volume
from batchone.pipeline.order import Order


def order_for(device: str) -> Order:
    due = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)
    return Order(case="demo-0001", device=device, side="left", process="pa12-sls", machine="sim-01", due=due)


# --- verdicts --------------------------------------------------------------------------------------------------------

ACCEPTED = ""


@dataclass(frozen=True, slots=True)
class Corrected:
    """Accepted, and this is recorded as corrected."""

    words: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Refused for this reason."""

    words: str


Required = str | Corrected | Refused

MR = Refused("it holds MR objects")
NO_DICOM = Refused("the study holds no DICOM file")
TWO_PATIENTS = Refused("the study holds CT images of 2 patients, must be 1")
SEG = Refused("it holds SEG objects")
CR = Refused("it holds CR objects: 1")
LOSSY = Refused("compressed with loss")
ONE_SLICE = Refused("the series has 1 slice")
SAME_PLACE = Refused("two images lie at one position, 3 times in 4 images")
_FEW = Refused("number of slices is 3, at least")
_DICOMDIR = "awkward/pydicom_dicomdir/src/pydicom/data/test_files"
_NEMA = "awkward/nema_wg04/medical.nema.org"
_SEGMENTATIONS = "awkward/dcmqi/data/segmentations"
_NIFTI = "awkward/dicom2nifti"

# every folder that holds files: what it must get for a model, and for a cranial implant
VERDICTS: dict[str, tuple[Required, Required]] = {
    "head-phantom.zip": (ACCEPTED, ACCEPTED),
    "head-phantom-tilted.zip": (Corrected("gantry tilt of 18.50 deg"), Refused("slice spacing is 2.37081 mm, at most 1.25 mm")),
    "thorax.zip": (Corrected("frame of reference of its own"), Corrected("frame of reference of its own")),
    "lumbar-labelled": (NO_DICOM, NO_DICOM),
    "lumbar-labelled/example_ct.nii.gz": (Corrected("no series metadata"), Refused("slice spacing is 3 mm, at most 1.25 mm")),
    "awkward": (Refused("patients, must be 1"), Refused("patients, must be 1")),
    "awkward/jpeg2000-slab": (ACCEPTED, Refused("slice spacing is 2 mm, at most 1.25 mm")),
    "awkward/slicer_cthead": (Refused("pixel size is 3.2 mm, at most 3 mm"), Refused("pixel size is 3.2 mm")),
    "awkward/slicer_cthead/Testing/Data/Input/CTHeadAxialDicom": (
        Refused("pixel size is 3.2 mm, at most 3 mm"),
        Refused("pixel size is 3.2 mm"),
    ),
    "awkward/dicom2stl/examples/Data": (NO_DICOM, NO_DICOM),
    "awkward/dicom2stl/examples/Data/ct_example.nii.gz": (
        Refused("slice spacing is 4 mm, at most 3 mm"),
        Refused("slice spacing is 4 mm, at most 1.25 mm"),
    ),
    "awkward/dcm_qa_ts": (MR, MR),
    "awkward/dcm_qa_ts/In": (MR, MR),
    f"{_NIFTI}/failing/gantrytilting/001": (
        Refused("number of slices is 4, at least 20; slice spacing is 4.85148 mm, at most 3 mm"),
        Refused("slice spacing is 4.85148 mm, at most 1.25 mm"),
    ),
    f"{_NIFTI}/failing/sliceincrement/001": (Refused("1 slice missing: the gap between 28.11 and 38.11 mm"),) * 2,
    f"{_NIFTI}/failing/sliceincrement/002": (Refused("1 slice missing: the gap between -133.75 and -132.25 mm"),) * 2,
    f"{_NIFTI}/failing/sliceincrement": (Refused("1 slice missing"),) * 2,
    f"{_NIFTI}/failing/notavolume/001": (SAME_PLACE, SAME_PLACE),
    f"{_NIFTI}/failing/slicecount": (MR, MR),
    f"{_NIFTI}/failing/slicecount/001": (MR, MR),
    f"{_NIFTI}/failing/sliceorientation/001": (MR, MR),
    f"{_NIFTI}/generic/anatomical": (MR, MR),
    f"{_NIFTI}/generic/anatomical/001": (MR, MR),
    f"{_NIFTI}/generic/anatomical/001_implicit": (MR, MR),
    f"{_NIFTI}/generic/anatomical/002_non_isotropic": (MR, MR),
    f"{_NIFTI}/generic/compressed": (MR, MR),
    f"{_NIFTI}/generic/compressed/001": (MR, MR),
    f"{_NIFTI}/generic/compressed_j2k": (MR, MR),
    f"{_NIFTI}/generic/compressed_j2k/001": (MR, MR),
    f"{_NIFTI}/generic/compressed_jpeg": (MR, MR),
    f"{_NIFTI}/generic/compressed_jpeg/001": (MR, MR),
    f"{_NIFTI}/generic/compressed_jpegls": (MR, MR),
    f"{_NIFTI}/generic/compressed_jpegls/001": (MR, MR),
    f"{_NIFTI}/generic/compressed_rle": (MR, MR),
    f"{_NIFTI}/generic/compressed_rle/001": (MR, MR),
    f"{_NIFTI}/generic/rgb": (MR, MR),
    f"{_NIFTI}/generic/rgb/001": (MR, MR),
    f"{_NIFTI}/sirona_multiframe/anatomical": (NO_DICOM, NO_DICOM),
    "awkward/dicom2nifti": (Refused("number of slices is 4, at least 20"), Refused("number of slices is 4, at least 60")),
    "awkward/dcmqi": (TWO_PATIENTS, TWO_PATIENTS),
    _SEGMENTATIONS: (TWO_PATIENTS, TWO_PATIENTS),
    f"{_SEGMENTATIONS}/ct-3slice": (_FEW, _FEW),
    f"{_SEGMENTATIONS}/23x38x3/image": (_FEW, _FEW),
    f"{_SEGMENTATIONS}/23x38x3/multiframe": (_FEW, _FEW),
    f"{_SEGMENTATIONS}/23x38x3/nrrd": (NO_DICOM, NO_DICOM),
    f"{_SEGMENTATIONS}/23x38x3/screenshots": (NO_DICOM, NO_DICOM),
    f"{_SEGMENTATIONS}/23x38x3/seg": (SEG, SEG),
    f"{_SEGMENTATIONS}/24x38x3/image": (_FEW, _FEW),
    f"{_SEGMENTATIONS}/24x38x3/multiframe": (_FEW, _FEW),
    f"{_SEGMENTATIONS}/24x38x3/nrrd": (NO_DICOM, NO_DICOM),
    f"{_SEGMENTATIONS}/24x38x3/screenshots": (NO_DICOM, NO_DICOM),
    f"{_SEGMENTATIONS}/24x38x3/seg": (SEG, SEG),
    "awkward/nema_wg04": (TWO_PATIENTS, TWO_PATIENTS),
    f"{_NEMA}/compsamples_j2k": (TWO_PATIENTS, TWO_PATIENTS),
    f"{_NEMA}/compsamples_j2k/IMAGES/J2KI": (TWO_PATIENTS, TWO_PATIENTS),
    f"{_NEMA}/compsamples_j2k/IMAGES/J2KI/CT1_J2KI": (LOSSY, LOSSY),
    f"{_NEMA}/compsamples_j2k/IMAGES/J2KI/CT2_J2KI": (LOSSY, LOSSY),
    f"{_NEMA}/compsamples_j2k/IMAGES/J2KR": (TWO_PATIENTS, TWO_PATIENTS),
    f"{_NEMA}/compsamples_j2k/IMAGES/J2KR/CT1_J2KR": (ONE_SLICE, ONE_SLICE),
    f"{_NEMA}/compsamples_jpeg": (TWO_PATIENTS, TWO_PATIENTS),
    f"{_NEMA}/compsamples_jpeg/IMAGES/JPLL": (TWO_PATIENTS, TWO_PATIENTS),
    f"{_NEMA}/compsamples_jpegls": (TWO_PATIENTS, TWO_PATIENTS),
    f"{_NEMA}/compsamples_jpegls/IMAGES/JLSL": (TWO_PATIENTS, TWO_PATIENTS),
    f"{_NEMA}/compsamples_jpegls/IMAGES/JLSN": (TWO_PATIENTS, TWO_PATIENTS),
    f"{_NEMA}/compsamples_jpegls/IMAGES/JLSN/CT1_JLSN": (LOSSY, LOSSY),
    f"{_NEMA}/compsamples_jpegls/IMAGES/JLSN/CT2_JLSN": (LOSSY, LOSSY),
    f"{_NEMA}/compsamples_refanddir": (TWO_PATIENTS, TWO_PATIENTS),
    f"{_NEMA}/compsamples_refanddir/IMAGES/REF": (TWO_PATIENTS, TWO_PATIENTS),
    f"{_NEMA}/compsamples_rle_20040210": (TWO_PATIENTS, TWO_PATIENTS),
    f"{_NEMA}/compsamples_rle_20040210/IMAGES/RLE": (TWO_PATIENTS, TWO_PATIENTS),
    "awkward/pydicom_data": (ONE_SLICE, ONE_SLICE),
    "awkward/pydicom_data/data_store/data": (ONE_SLICE, ONE_SLICE),
    "awkward/pydicom_data/data_store/data/693_UNCI.dcm": (LOSSY, LOSSY),
    "awkward/pydicom_data/data_store/data/eCT_Supplemental.dcm": (Refused("maps computed from CT: 1"),) * 2,
    "awkward/pydicom_dicomdir": (Refused("CT images of 3 patients"),) * 2,
    _DICOMDIR: (Refused("CT images of 3 patients"),) * 2,
    f"{_DICOMDIR}/dicomdirtests": (Refused("CT images of 3 patients"),) * 2,
    f"{_DICOMDIR}/dicomdirtests/77654033/CR1": (CR, CR),
    f"{_DICOMDIR}/dicomdirtests/77654033/CR2": (CR, CR),
    f"{_DICOMDIR}/dicomdirtests/77654033/CR3": (CR, CR),
    f"{_DICOMDIR}/dicomdirtests/77654033/CT2": (Refused("the gap between -99.48 and 103.02 mm"),) * 2,
    f"{_DICOMDIR}/dicomdirtests/98892001/CT2N": (Refused("it holds localizers: 2"),) * 2,
    f"{_DICOMDIR}/dicomdirtests/98892001/CT5N": (Refused("number of slices is 5"),) * 2,
    f"{_DICOMDIR}/dicomdirtests/98892003/MR1": (MR, MR),
    f"{_DICOMDIR}/dicomdirtests/98892003/MR2": (MR, MR),
    f"{_DICOMDIR}/dicomdirtests/98892003/MR700": (MR, MR),
    f"{_DICOMDIR}/dicomdirtests/TINY_ALPHA": (Refused("0 rows and 0 columns"),) * 2,
    f"{_DICOMDIR}/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000": (Refused("0 rows and 0 columns"),) * 2,
}
FAMILIES = ("anatomical-model", "cranial-implant")


@pytest.mark.data
def test_every_folder_has_a_line_in_the_table(test_data: Path) -> None:
    files = [path for place in ("awkward", "lumbar-labelled") for path in (test_data / place).rglob("*") if path.is_file()]
    folders = {str(path.parent.relative_to(test_data)) for path in files}
    assert folders | {path.name for path in test_data.glob("*.zip")} <= set(VERDICTS)


@pytest.mark.data
@pytest.mark.parametrize("name", VERDICTS)
def test_each_study_gets_its_verdict(test_data: Path, name: str) -> None:
    families = load_families()
    for device, required in zip(FAMILIES, VERDICTS[name], strict=True):
        protocol = families[device].limits.protocol
        if isinstance(required, Refused):
            with pytest.raises(SeriesError) as caught:
                intake(test_data / name, order_for(device), protocol)
            assert required.words in str(caught.value)
            assert caught.value.hint
        elif device == FAMILIES[0]:
            scan, _ = intake(test_data / name, order_for(device), protocol)
            said = "; ".join(scan.record.corrections)
            assert (required.words in said) if isinstance(required, Corrected) else (not said)
        else:
            admit(test_data / name, protocol)  # it was read whole for the model


@pytest.mark.data
def test_the_tilted_head_is_as_long_as_it_is(test_data: Path) -> None:
    """183.4 mm when the shear is undone; 203 to 205 mm when it is ignored."""
    from scipy.ndimage import label
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist

    (stack,) = stack_images(sort_files(open_study(test_data / "head-phantom-tilted.zip")).images)
    assert stack.geometry is not None
    found, _ = label(straighten(read_volume(stack).hu, stack.geometry) > 500)  # HU: plastic skull, without the holder
    sizes = np.bincount(found.ravel())[1:]
    index = np.argwhere(found == int(np.argmax(sizes)) + 1)[::7, ::-1]  # every seventh voxel: 0.1 mm at most off the ends
    ends = index[ConvexHull(index).vertices]
    points = ends @ stack.geometry.matrix[:3, :3].T
    assert float(pdist(points).max()) == pytest.approx(183.4, abs=1.0)

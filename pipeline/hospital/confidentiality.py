"""What may stay of a CT object, and what becomes of the rest: PS3.15 Annex E as data, and the little that the job needs.

Two gates, one behind the other. The table E.1-1 of the standard says what happens to each attribute that it names. What it
does not name stays only when it is of use to the job and cannot hold a person's words: numbers and coded terms of the
acquisition, relationship and image groups, a short list of texts about the scanner, and the functional groups of multi-frame
objects. Everything else goes: private attributes (no private attribute is needed, so none counts as safe), curves, overlays.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Final

TABLE_EDITION = "2024b"
METHOD: Final = f"batchone 1, PS3.15 E.1-1 {TABLE_EDITION}"

CODES: Final = (  # CID 7050; the options that this profile carries out. Device identity (serial numbers, stations) is not kept.
    ("113100", "Basic Application Confidentiality Profile"),
    ("113105", "Clean Descriptors Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)

SHIFTED_DATES: Final = frozenset(  # option 113107: whole days, the same for all of a patient
    {
        0x00080020,  # StudyDate
        0x00080021,  # SeriesDate
        0x00080022,  # AcquisitionDate
        0x00080023,  # ContentDate
        0x0008002A,  # AcquisitionDateTime
        0x00189074,  # FrameAcquisitionDateTime
        0x00189151,  # FrameReferenceDateTime
    }
)
MOVED_TIMES: Final = frozenset(  # option 113107: their differences stay, for they tell phases and passes apart
    {
        0x00080032,  # AcquisitionTime
        0x00080033,  # ContentTime
    }
)
CLEANED_TEXTS: Final = frozenset(  # option 113105: the words of DESCRIPTOR_WORDS stay, the others go
    {
        0x00081030,  # StudyDescription
        0x0008103E,  # SeriesDescription
        0x00180015,  # BodyPartExamined
        0x00181030,  # ProtocolName
    }
)
SCANNER_TEXTS: Final = frozenset(
    {
        0x00080070,  # Manufacturer
        0x00081090,  # ManufacturerModelName
        0x00181210,  # ConvolutionKernel
        0x00209056,  # StackID
        0x00281054,  # RescaleType
    }
)
GENERAL_CODES: Final = frozenset(  # coded terms of group 0008 that say what kind of image it is
    {
        0x00080008,  # ImageType
        0x00080016,  # SOPClassUID
        0x00080060,  # Modality
        0x00089007,  # FrameType
        0x00089205,  # PixelPresentation
        0x00089206,  # VolumetricProperties
        0x00089207,  # VolumeBasedCalculationTechnique
        0x00102210,  # AnatomicalOrientationType
    }
)
TECHNICAL_GROUPS: Final = frozenset({0x0018, 0x0020, 0x0028})  # acquisition, relationship, image
SEQUENCES: Final = frozenset(  # functional groups of multi-frame CT, and what says where its frames are
    {
        0x00082218,  # AnatomicRegionSequence
        0x00189301,  # CTAcquisitionTypeSequence
        0x00189304,  # CTAcquisitionDetailsSequence
        0x00189308,  # CTTableDynamicsSequence
        0x00189312,  # CTGeometrySequence
        0x00189314,  # CTReconstructionSequence
        0x00189321,  # CTExposureSequence
        0x00189325,  # CTXRayDetailsSequence
        0x00189326,  # CTPositionSequence
        0x00189329,  # CTImageFrameTypeSequence
        0x00209071,  # FrameAnatomySequence
        0x00209111,  # FrameContentSequence
        0x00209113,  # PlanePositionSequence
        0x00209116,  # PlaneOrientationSequence
        0x00209170,  # UnassignedSharedConvertedAttributesSequence
        0x00209171,  # UnassignedPerFrameConvertedAttributesSequence
        0x00209221,  # DimensionOrganizationSequence
        0x00209222,  # DimensionIndexSequence
        0x00209172,  # ConversionSourceAttributesSequence
        0x00289110,  # PixelMeasuresSequence
        0x00289132,  # FrameVOILUTSequence
        0x00289145,  # PixelValueTransformationSequence
        0x52009229,  # SharedFunctionalGroupsSequence
        0x52009230,  # PerFrameFunctionalGroupsSequence
    }
)
_WORDS = """
    ABDOMEN ANGIO ANKLE ARM AXIAL BODY BONE BONES BRAIN CERVICAL CHEST CLAVICLE CONTRAST CORONAL CRANIAL CRANIUM CSPINE CT
    CTA DELAYED DENTAL ELBOW EXTREMITY FACE FACIAL FEMUR FIBULA FINE FOOT HAND HEAD HEADNECK HELICAL HIP HIRES HR HRCT
    HUMERUS KNEE LEFT LEG LOWER LSPINE LUMBAR LUNG MANDIBLE MAXILLA MEDIASTINUM METAL MM NATIVE NECK NONE ORBIT ORBITS
    PELVIS PHASE PLAIN POST PRE RADIUS RECON RIBS RIGHT ROUTINE SAGITTAL SCAPULA SHARP SHOULDER SINUS SKULL SLICE SMOOTH
    SOFT SPINE SPIRAL SSPINE STANDARD STERNUM TEMPORAL THICK THIN THORACIC THORAX TIBIA TISSUE TMJ TRAUMA TSPINE ULNA
    UPPER VENOUS VOLUME WITH WITHOUT WRIST
"""
DESCRIPTOR_WORDS: Final = frozenset(_WORDS.split())


@lru_cache(maxsize=1)
def table() -> dict[int, str]:
    """Action by tag of table E.1-1, without the repeating groups (all of 50xx and 60xx goes)."""
    text = files("batchone.pipeline.hospital").joinpath(f"ps315_e1_{TABLE_EDITION}.tsv").read_text(encoding="ascii")
    rows = (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))
    return {int(tag, 16): action for tag, action, _ in rows if "x" not in tag}

"""De-identification: nothing that names a person is left, nothing that the job needs is changed."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import os
import re
import shutil
import struct
import subprocess
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dicomanonymizer.simpledicomanonymizer import anonymize_dataset, initialize_actions_2024b
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread, uid
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.hospital.anonymise import MAX_SHIFT_DAYS, MIN_SHIFT_DAYS, Anonymiser
from batchone.pipeline.hospital.codestream import UnknownStreamError, without_comments
from batchone.pipeline.hospital.confidentiality import CLEANED_TEXTS, table
from batchone.pipeline.hospital.keep import Keep
from batchone.pipeline.hospital.parcel import pack
from batchone.pipeline.intake.make import intake
from batchone.pipeline.limits import Protocol
from batchone.pipeline.order import Order
from batchone.samples.dicom import write_series
from batchone.samples.traps import TRAPS, trap, write_trap

CASE = "case-0001"
NAME, REFERRER = "SEEDNAMEA^ALPHA^SEEDMIDDLE", "SEEDREFER^BETA"
AFFINE = np.diag([0.5, 0.5, 1.0, 1.0])
GEOMETRY = [
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ConvolutionKernel",
    "PatientPosition",
    "KVP",
    "Rows",
    "Columns",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "Laterality",
    "GantryDetectorTilt",
    "Manufacturer",
    "ManufacturerModelName",
    "Modality",
    "ImageType",
    "SOPClassUID",
    "InstanceNumber",
    "SpacingBetweenSlices",
    "SliceLocation",
]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    return Keep.open(tmp_path / "keep")


def _phantom(seed: int = 1, slices: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 2000, (slices, 32, 32)).astype(np.int16)


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _seed(item: Dataset) -> dict[str, bytes]:
    """Put identity everywhere a scanner, a PACS or a person may put it; returns what must not be found again, by place."""
    item.SpecificCharacterSet = "ISO_IR 192"
    texts = {
        "PatientName": NAME, "PatientID": "SEEDPATID-7711", "OtherPatientIDs": ["SEEDOTHER1", "SEEDOTHER2"],
        "PatientBirthDate": "19611231", "PatientBirthTime": "042917", "PatientAge": "067Y", "PatientWeight": "83.7193",
        "PatientSize": "1.7713", "EthnicGroup": "SEEDETHNIC", "PatientComments": "SEEDCOMMENT ÄÖÜ", "Occupation": "SEEDWORK",
        "PatientAddress": "SEEDSTREET 5", "PatientTelephoneNumbers": "0790SEED123", "MedicalAlerts": "SEEDALERT",
        "AccessionNumber": "SEEDACC99", "StudyID": "SEEDSTUDYID", "ReferringPhysicianName": REFERRER,
        "PerformingPhysicianName": "SEEDPERF^GAMMA", "OperatorsName": "SEEDOPER^DELTA", "InstitutionName": "SEEDHOSPITAL",
        "InstitutionAddress": "SEEDROAD 1", "InstitutionalDepartmentName": "SEEDDEPT", "StationName": "SEEDSTATION",
        "DeviceSerialNumber": "SEEDSERIAL", "StudyDescription": "HEAD SEEDDESC", "SeriesDescription": "THIN BONE SEEDSERIES 0.6",
        "ProtocolName": "SEEDPROTOCOL", "ImageComments": "SEEDIMGCOMMENT", "AdditionalPatientHistory": "SEEDHISTORY",
        "RequestedProcedureDescription": "SEEDPROCEDURE", "StudyDate": "20230417", "SeriesDate": "20230418",
        "AcquisitionDate": "20230419", "ContentDate": "20230420", "AcquisitionDateTime": "20230421134711.123456",
        "StudyTime": "134711.991", "SeriesTime": "134712.992", "AcquisitionTime": "134713.993", "ContentTime": "134714.994",
        "InstanceCreationDate": "20230422", "DateOfLastCalibration": "20230101", "ContrastBolusAgent": "SEEDAGENT",
        "IrradiationEventUID": "1.2.826.0.1.3680043.8.498.77", "SoftwareVersions": "SEEDVERSION", "FilterType": "SEEDFILTER",
        "WindowCenterWidthExplanation": "SEEDWINDOW", "PositionReferenceIndicator": "SEEDMARK",
        "DerivationDescription": "SEEDDERIVE",
        "PlateID": "SEEDPLATE", "CurrentPatientLocation": "SEEDWARD", "IssuerOfPatientID": "SEEDISSUER",
    }  # fmt: skip
    for keyword, value in texts.items():
        setattr(item, keyword, value)
    item.ConvolutionKernel = ["BONE", "SEEDNAMEA"]  # a name where a kernel should stand
    item.BodyPartExamined = "HEAD SEEDMIDDLE"
    item.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "SEEDMIDDLE"]
    item.RequestAttributesSequence = Sequence(
        [_item(RequestedProcedureID="SEEDREQ", ScheduledProcedureStepDescription="SEEDNESTED",
               ScheduledProtocolCodeSequence=Sequence([_item(CodeValue="SEEDCODE", CodeMeaning="SEEDDEEP")]))]
    )  # fmt: skip
    item.ReferencedStudySequence = Sequence([_item(ReferencedSOPInstanceUID="1.2.826.0.1.3680043.8.498.78")])
    item.OtherPatientIDsSequence = Sequence([_item(PatientID="SEEDSECOND")])
    item.IconImageSequence = Sequence([_item(Rows=1, Columns=1, BitsAllocated=8, PixelData=b"SEEDICON")])
    item.CTAcquisitionTypeSequence = Sequence([_item(AcquisitionType="SPIRAL", ImageComments="SEEDKEPTSEQ")])
    block = item.private_block(0x0009, "SEEDCREATOR", create=True)
    block.add_new(0x01, "LO", "SEEDPRIVATE")
    block.add_new(0x02, "UN", b"SEEDUNKNOWN!")
    block.add_new(0x03, "SQ", [_item(PatientName="SEEDPRIVSEQ")])
    item[0x60000010] = DataElement(0x60000010, "US", 32)
    item[0x60000022] = DataElement(0x60000022, "LO", "SEEDOVERDESC")
    item[0x60003000] = DataElement(0x60003000, "OW", b"SEEDOVERDATA" + bytes(116))
    item[0x60004000] = DataElement(0x60004000, "LT", "SEEDOVERTEXT")
    item[0x50000022] = DataElement(0x50000022, "LO", "SEEDCURVE")
    item[0x00091FFF] = DataElement(0x00091FFF, "UN", b"SEEDORPHAN")
    item[0x00189999] = DataElement(0x00189999, "LO", "SEEDNOTAG")  # in no dictionary
    item[0xFFFCFFFC] = DataElement(0xFFFCFFFC, "OB", b"SEEDPADDING!")
    tokens = {name: token.encode() for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
              for token in [str(item[name].value)]}  # fmt: skip
    for keyword, value in texts.items():
        for part in value if isinstance(value, list) else [value]:
            for word in re.split(r"[\^ ]", part):
                if not re.fullmatch(r"ALPHA|BETA|GAMMA|DELTA|HEAD|THIN|BONE|0\.6|[15]|ÄÖÜ", word):
                    tokens[f"{keyword} {word}"] = word.encode()
    found = re.findall(r"SEED[A-Z]+", item.to_json())
    return tokens | {f"text {word}": word.encode() for word in found} | {
        name: f"SEED{name}".encode()
        for name in ("UNKNOWN", "ICON", "OVERDATA", "ORPHAN", "PADDING", "PREAMBLE", "TITLE", "FOLDER", "FILE", "TAIL")
    }  # fmt: skip


def _seeded_study(folder: Path) -> dict[str, bytes]:
    tokens: dict[str, bytes] = {}
    plain = write_series(_phantom(), AFFINE, folder / "plain", mess=True)
    inside = folder / "SEEDFOLDER^ALPHA" / "SEEDPATID-7711"
    inside.mkdir(parents=True)
    for number, path in enumerate(plain):
        item = dcmread(path)
        tokens |= _seed(item)
        item.PixelData = item.PixelData + b"SEEDTAIL"
        item.file_meta.SourceApplicationEntityTitle = "SEEDTITLE"
        item.preamble = b"SEEDPREAMBLE".ljust(128, b"\0")
        item.save_as(inside / f"SEEDFILE {number}.dcm", enforce_file_format=True)
    for path in (folder / "plain").iterdir():
        if path not in plain:
            shutil.copy(path, inside)
    shutil.rmtree(folder / "plain")
    return tokens


def _encodings(token: bytes) -> Iterator[bytes]:
    text = token.decode()
    for codec in ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "utf-32-le"):
        yield text.encode(codec)
        yield text.lower().encode(codec)


def _found(content: bytes, tokens: dict[str, bytes]) -> list[str]:
    return sorted({place for place, token in tokens.items() if any(form in content for form in _encodings(token))})


def test_nothing_of_a_seeded_identity_is_left_in_the_parcel(tmp_path: Path, keep: Keep, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    tokens = _seeded_study(tmp_path / "in")
    assert len(tokens) >= 36
    whole = b"".join(path.read_bytes() for path in sorted((tmp_path / "in").rglob("*")) if path.is_file())
    names = "".join(str(path) for path in (tmp_path / "in").rglob("*")).encode()
    assert set(_found(whole + names, tokens)) == set(tokens)  # the search itself finds every seed
    parcel = pack(tmp_path / "in", keep, order=None, case=CASE)
    assert _found(parcel.path.read_bytes(), tokens) == []
    assert _found(str(parcel.path).encode(), tokens) == []
    with zipfile.ZipFile(parcel.path) as opened:
        for member in opened.infolist():
            assert _found(opened.read(member), tokens) == []
            assert opened.read(member)[:128].strip(b"\0") == b"" or not member.filename.startswith("study/")
    assert _found(caplog.text.encode(), tokens) == []
    assert _found(b"".join(path.read_bytes() for path in keep.folder.rglob("*") if path.is_file()), tokens) == []
    relink = keep.recall(CASE)
    assert relink is not None
    assert dict(relink.attributes)["PatientName"] == NAME
    assert relink.identity.patient_name == NAME


def test_what_the_job_needs_is_kept_to_the_last_digit_and_the_markers_are_set(tmp_path: Path, keep: Keep) -> None:
    _seeded_study(tmp_path / "in")
    parcel = pack(tmp_path / "in", keep, order=None, case=CASE)
    before = [dcmread(path) for path in sorted((tmp_path / "in").rglob("SEEDFILE*"))]
    after = [dcmread(io.BytesIO(content)) for content in _images(parcel.path)]
    rules = Anonymiser(keep)
    by_uid = {str(item.SOPInstanceUID): item for item in after}
    for item in before:
        new = by_uid[rules.uid(str(item.SOPInstanceUID))]
        for keyword in set(GEOMETRY) - {"ConvolutionKernel", "ImageType"}:
            assert new.get(keyword) == item.get(keyword), keyword
        assert new.ConvolutionKernel == ["BONE", ""]
        assert new.ImageType[:3] == ["ORIGINAL", "PRIMARY", "AXIAL"]
        assert new.PixelData == item.PixelData.removesuffix(b"SEEDTAIL")
        assert (new.PatientName, new.PatientID, new.PatientBirthDate, new.PatientSex) == (CASE, CASE, "", "")
        assert new.PatientIdentityRemoved == "YES"
        assert new.LongitudinalTemporalInformationModified == "MODIFIED"
        assert [one.CodeValue for one in new.DeidentificationMethodCodeSequence] == ["113100", "113105", "113107"]
        assert new.SeriesDescription == "THIN BONE 0.6"
        assert new.StudyDescription == "HEAD"
        assert "SourceApplicationEntityTitle" not in new.file_meta
    assert len({str(item.FrameOfReferenceUID) for item in after}) == 1


def test_the_volume_of_a_parcel_is_that_of_the_study(tmp_path: Path, keep: Keep) -> None:
    write_series(_phantom(slices=12), AFFINE, tmp_path / "in", mess=True)
    parcel = pack(tmp_path / "in", keep, order=None, case=CASE)
    with zipfile.ZipFile(parcel.path) as opened:
        opened.extractall(tmp_path / "out")
    protocol = Protocol.model_construct(**_WIDE)
    order = Order.model_construct(case=CASE, due=_DUE)
    before, who = intake(tmp_path / "in", order, protocol)
    after, nobody = intake(tmp_path / "out" / "study", order, protocol)
    assert np.array_equal(before.hu, after.hu)
    assert np.array_equal(before.affine, after.affine)
    relink = keep.recall(CASE)
    assert relink is not None
    assert [dict(relink.uids)[uid] for uid in nobody.instance_uids] == list(who.instance_uids)
    assert dict(relink.uids)[nobody.frame_of_reference_uid] == who.frame_of_reference_uid
    assert dict(relink.uids)[nobody.study_instance_uid] == who.study_instance_uid


_DUE = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
_WIDE = {
    name: (
        field.default if not field.is_required() else (2 if "min" in name else 1000.0 if field.annotation is float else "test")
    )
    for name, field in Protocol.model_fields.items()
}


def _images(parcel: Path) -> list[bytes]:
    with zipfile.ZipFile(parcel) as opened:
        return [opened.read(name) for name in sorted(opened.namelist()) if name.startswith("study/")]


def test_dates_move_together_by_whole_days_backwards_and_times_by_seconds(tmp_path: Path, keep: Keep) -> None:
    _seeded_study(tmp_path / "in")
    pack(tmp_path / "in", keep, order=None, case=CASE)
    relink = keep.recall(CASE)
    assert relink is not None
    assert -MAX_SHIFT_DAYS <= relink.date_shift_days <= -MIN_SHIFT_DAYS
    new = dcmread(io.BytesIO(_images(next(keep.outbox.glob("*.batchone")))[0]))
    dated = (new.StudyDate, new.SeriesDate, new.AcquisitionDate, new.ContentDate, new.AcquisitionDateTime)
    days = [np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:8]}") for text in map(str, dated)]
    assert [int((day - days[0]).astype(int)) for day in days] == [0, 1, 2, 3, 4]
    assert days[0] == np.datetime64("2023-04-17") + relink.date_shift_days
    assert "SeriesTime" not in new
    assert new.StudyTime == ""
    times = [_seconds(str(time)) for time in (str(new.AcquisitionDateTime)[8:], new.AcquisitionTime, new.ContentTime)]
    assert [round(time - times[0], 6) for time in times] == [0.0, 2.869544, 3.870544]
    assert 0 < times[0] < 43_200
    assert times[0] != _seconds("134711.123456")


def _seconds(text: str) -> float:
    return int(text[:2]) * 3600 + int(text[2:4]) * 60 + float(text[4:])


def test_one_hospital_gives_the_same_pseudonyms_and_another_gives_others(tmp_path: Path, keep: Keep) -> None:
    other = Keep.open(tmp_path / "other")
    ours, theirs = Anonymiser(keep), Anonymiser(other)
    assert ours.uid("1.2.3") == Anonymiser(Keep.open(keep.folder)).uid("1.2.3") != theirs.uid("1.2.3")
    assert re.fullmatch(r"2\.25\.(0|[1-9][0-9]*)", ours.uid("1.2.3"))
    assert len(ours.uid("1.2.3")) <= 64
    assert ours.uid("") == ""
    shifts = {ours.shift_days(f"patient {k}") for k in range(200)}
    assert len(shifts) > 150
    assert ours.shift_days("p") == Anonymiser(keep).shift_days("p")


@pytest.mark.parametrize("part", ["top", "nested"])
def test_whatever_the_oracle_takes_out_we_take_out(keep: Keep, part: str) -> None:
    """dicom-anonymizer with the same edition of the table, on an object that holds every attribute of it."""
    given_values, ours, theirs = _everything(), _base(), _everything()
    if part == "top":
        ours.update(_everything())
    else:
        ours.CTAcquisitionTypeSequence = Sequence([_everything()])
    assert len(given_values) > 590
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        anonymize_dataset(theirs, base_rules_gen=initialize_actions_2024b)
    new = dcmread(io.BytesIO(Anonymiser(keep).anonymise(_bytes(ours), CASE).content))
    inner = new if part == "top" else new.CTAcquisitionTypeSequence[0]
    before = {element.tag: str(element.value) for element in given_values}
    changed = {tag for tag in before if tag not in theirs or str(theirs[tag].value) != before[tag]}
    assert len(changed) > 580
    kept = {int(tag) for tag in changed if tag in inner and str(inner[tag].value) == before[tag]}
    assert kept <= CLEANED_TEXTS  # known words of a descriptor, on purpose


def _everything() -> Dataset:
    """One element for each attribute of the table that an object may hold and the oracle can treat."""
    item = Dataset()
    for tag in sorted(table()):
        if tag >> 16 >= 8 and (element := _valued(tag)) is not None and element.VR not in ("OW", "AT"):
            item.add(element)
    return item


def _base() -> Dataset:
    item = Dataset()
    item.SOPClassUID, item.SOPInstanceUID = uid.CTImageStorage, "1.2.3.4"
    item.Rows = item.Columns = 2
    item.SamplesPerPixel, item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 1, 16, 16, 15, 0
    item.PixelData = bytes(8)
    return item


def _valued(tag: int) -> DataElement | None:
    values = {
        "DA": "20230417", "TM": "134711", "DT": "20230417134711", "AS": "067Y", "DS": "83.5", "IS": "83", "UI": "1.2.826.0.1.77",
        "CS": "SEEDED", "PN": "SEEDED^ALPHA", "UR": "http://seed.invalid", "US": 83, "UL": 83, "SS": 83, "SL": 83, "FD": 83.5,
        "FL": 83.5, "OB": b"SEEDED", "OW": b"SEEDED", "UN": b"SEEDED", "SQ": [_item(PatientComments="SEEDED")], "AT": 0x00100010,
    }  # fmt: skip
    try:
        vr = dictionary_VR(tag).split(" or ")[0]
    except KeyError:
        return None
    return DataElement(tag, vr, values.get(vr, "SEEDED"))


def _bytes(item: Dataset, syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
    target = io.BytesIO()
    item.ensure_file_meta()
    item.file_meta.TransferSyntaxUID = syntax
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcmwrite(target, item, enforce_file_format=True)
    return target.getvalue()


@pytest.fixture(scope="session")
def validator() -> str:
    program = shutil.which("dciodvfy")
    if program is None:
        assert not os.environ.get("CI"), "dciodvfy is missing in CI"
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed")
    return program


def _errors(validator: str, path: Path) -> set[str]:
    done = subprocess.run([validator, str(path)], capture_output=True, text=True, check=False)
    assert "CTImage" in done.stdout + done.stderr
    return {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}


def test_a_validator_finds_no_error_in_what_we_write(tmp_path: Path, keep: Keep, validator: str) -> None:
    _seeded_study(tmp_path / "in")
    parcel = pack(tmp_path / "in", keep, order=None, case=CASE)
    (tmp_path / "new.dcm").write_bytes(_images(parcel.path)[0])
    assert _errors(validator, tmp_path / "new.dcm") == set()


@pytest.mark.data
@pytest.mark.parametrize(
    "folder", ["pydicom_data/data_store", "dicom2nifti/failing/gantrytilting", "dicom2nifti/failing/notavolume"]
)
def test_a_validator_finds_no_error_that_the_original_has_not(
    tmp_path: Path, keep: Keep, test_data: Path, validator: str, folder: str
) -> None:
    files = [path for path in sorted((test_data / "awkward" / folder).rglob("*")) if path.is_file()]
    files = [path for path in files if not path.name.startswith("eCT")]  # perfusion maps with a palette are never sent
    for path in files[:3]:
        if path.read_bytes()[128:132] == b"DICM":
            (tmp_path / "new.dcm").write_bytes(Anonymiser(keep).anonymise(path.read_bytes(), CASE).content)
            assert _errors(validator, tmp_path / "new.dcm") <= _errors(validator, path)


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian])
def test_every_uncompressed_syntax_becomes_plain_with_the_same_values(tmp_path: Path, keep: Keep, syntax: str) -> None:
    path = write_series(_phantom(slices=3), AFFINE, tmp_path / "in")[1]
    item = dcmread(path)
    item.PatientName = "TEST^ALPHA"
    before = item.pixel_array.copy()
    if syntax == uid.ExplicitVRBigEndian:
        item.PixelData = before.astype(">u2").tobytes()
    item.file_meta.TransferSyntaxUID = syntax
    target = io.BytesIO()
    dcmwrite(target, item, enforce_file_format=True, implicit_vr=syntax == uid.ImplicitVRLittleEndian,
             little_endian=syntax != uid.ExplicitVRBigEndian)  # fmt: skip
    new = dcmread(io.BytesIO(Anonymiser(keep).anonymise(target.getvalue(), CASE).content))
    assert new.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    assert np.array_equal(new.pixel_array, before)
    assert [new.get(k) for k in GEOMETRY] == [item.get(k) for k in GEOMETRY]


def test_an_overlay_in_unused_bits_of_the_pixels_goes_and_the_image_stays(tmp_path: Path, keep: Keep) -> None:
    item = dcmread(write_series(_phantom(slices=3), AFFINE, tmp_path / "in")[0])
    before = item.pixel_array.copy()
    item.PixelData = (before | np.uint16(1 << 14)).astype("<u2").tobytes()
    plain = dcmread(io.BytesIO(Anonymiser(keep).anonymise(_bytes(item), CASE).content))
    assert plain.PixelData == item.PixelData  # no overlay is declared: bits are not touched
    item[0x60000102] = DataElement(0x60000102, "US", 14)
    new = dcmread(io.BytesIO(Anonymiser(keep).anonymise(_bytes(item), CASE).content))
    assert np.array_equal(np.frombuffer(new.PixelData, "<u2").reshape(before.shape), before)
    assert not [tag for tag in sorted(new.keys()) if tag.group >= 0x5000 and tag != 0x7FE00010]


@settings(max_examples=60, deadline=None)
@given(stored=st.integers(8, 15), spare=st.integers(0, 1), signed=st.integers(0, 1), data=st.binary(min_size=8, max_size=8))
def test_without_its_overlay_bits_a_pixel_decodes_to_the_same_value(stored: int, spare: int, signed: int, data: bytes) -> None:
    from batchone.pipeline.hospital.anonymise import _without_overlay_bits

    high = min(stored - 1 + spare, 15)
    item = _item(BitsStored=stored, HighBit=high, PixelRepresentation=signed)
    raw = np.frombuffer(data, "<u2")
    shifted = (raw.astype(np.int64) >> (high + 1 - stored)) & ((1 << stored) - 1)
    truth = np.where((shifted >> (stored - 1) & 1) * signed, shifted - (1 << stored), shifted)
    new = _without_overlay_bits(raw, item)
    assert np.array_equal(new.astype(np.int64) >> (high + 1 - stored), truth)


@pytest.mark.parametrize(("syntax", "mark"), [(uid.JPEGLSLossless, "jpeg"), (uid.JPEG2000Lossless, "2000")])
def test_comments_in_compressed_pixels_are_blanked_and_the_pixels_stay(
    tmp_path: Path, keep: Keep, syntax: uid.UID, mark: str
) -> None:
    item = dcmread(write_series(_phantom(slices=3), AFFINE, tmp_path / "in")[0])
    before = item.pixel_array.copy()
    item.compress(syntax, generate_instance_uid=False)
    stream = _first_frame(item.PixelData)
    seed = b"SEEDNAMEA wrote this"
    if mark == "jpeg":
        comment = b"\xff\xfe" + struct.pack(">H", len(seed) + 2) + seed
        application = b"\xff\xe5" + struct.pack(">H", len(seed) + 2) + seed
        seeded = stream[:2] + comment + application + stream[2:] + b"SEEDTAIL"
    else:
        comment = b"\xff\x64" + struct.pack(">HH", len(seed) + 4, 1) + seed
        first = int.from_bytes(stream[4:6], "big") + 4
        seeded = stream[:first] + comment + stream[first:] + b"SEEDTAIL"
    item.PixelData = encapsulate([seeded])
    item["PixelData"].is_undefined_length = True
    done = Anonymiser(keep).anonymise(_bytes(item, syntax), CASE).content
    assert b"SEEDNAMEA" not in done
    assert b"SEEDTAIL" not in done
    new = dcmread(io.BytesIO(done))
    assert new.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(new.pixel_array, before)


def _first_frame(encapsulated: bytes) -> bytes:
    table_size = int.from_bytes(encapsulated[4:8], "little")
    at = 8 + table_size
    return encapsulated[at + 8 : at + 8 + int.from_bytes(encapsulated[at + 4 : at + 8], "little")]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.JPEGLosslessSV1]), st.booleans())
def test_a_broken_codestream_is_refused_or_kept_in_length(data: bytes, syntax: str, headed: bool) -> None:
    start = (b"\xff\x4f\xff\x51" if syntax == uid.JPEG2000Lossless else b"\xff\xd8\xff") if headed else b""
    given_bytes = encapsulate([start + data]) if start + data else b""
    with contextlib.suppress(UnknownStreamError):
        assert len(without_comments(given_bytes, syntax)) == len(given_bytes)


def test_an_unknown_kind_of_compression_is_refused() -> None:
    for syntax in ("1.2.840.10008.1.2.4.100", "1.2.3", "1.2.840.10008.1.2.4.94"):
        with pytest.raises(UnknownStreamError):
            without_comments(encapsulate([b"\xff\xd8\xff\xd9"]), syntax)


@settings(max_examples=150, deadline=None)
@given(st.integers(132, 1500), st.binary(min_size=1, max_size=8))
def test_a_broken_file_is_refused_without_its_content(tmp_path_factory: pytest.TempPathFactory, at: int, damage: bytes) -> None:
    keep = Keep.open(_SHARED.setdefault("keep", tmp_path_factory.mktemp("keep")))
    if "file" not in _SHARED:
        _SHARED["file"] = write_series(_phantom(slices=3), AFFINE, tmp_path_factory.mktemp("study"), patient_name="SEEDED^ALPHA")[
            0
        ]
    content = bytearray(_SHARED["file"].read_bytes())
    content[at : at + len(damage)] = damage
    try:
        done = Anonymiser(keep).anonymise(bytes(content), CASE)
        told = ""
    except SeriesError as error:
        done, told = None, str(error)
    assert "SEEDED" not in told
    assert done is None or b"SEEDED" not in done.content


_SHARED: dict[str, Path] = {}


def test_numbers_that_are_none_and_words_among_codes_do_not_pass(keep: Keep) -> None:
    item = _base()
    item.PatientName = "SEEDED^ALPHA"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        item[0x00180060] = DataElement(0x00180060, "LO", "SEEDED")  # KVP written as a text
        item[0x00180050] = DataElement(0x00180050, "DS", "1.25")
        item.ScanOptions = "Seeded^Alpha"
        item.Laterality = "L"
        item.FrameOfReferenceUID = "SEEDED"
        new = dcmread(io.BytesIO(Anonymiser(keep).anonymise(_bytes(item), CASE).content))
    assert "KVP" not in new
    assert (str(new.SliceThickness), new.Laterality, new.ScanOptions) == ("1.25", "L", "")
    assert re.fullmatch(r"2\.25\.\d+", new.FrameOfReferenceUID)


def test_the_table_is_the_whole_of_edition_2024b() -> None:
    from dicomanonymizer.dicom_anonymization_databases import dicomfields_2024b

    assert set(table()) == {tag[0] << 16 | tag[1] for tag in dicomfields_2024b.ALL_TAGS if len(tag) == 2}
    assert table()[Tag("PatientName")] == "Z"
    assert table()[Tag("StudyInstanceUID")] == "U"
    assert table()[Tag("AcquisitionDateTime")] == "X/Z/D"


@pytest.mark.slow
@pytest.mark.parametrize("name", [trap.name for trap in TRAPS])
def test_every_awkward_series_gets_the_same_verdict_and_volume_after_as_before(tmp_path: Path, keep: Keep, name: str) -> None:
    (tmp_path / "in").mkdir()
    write_trap(trap(name), tmp_path / "in")
    order, protocol = Order.model_construct(case=CASE, due=_DUE), Protocol.model_construct(**_WIDE)
    try:
        before = intake(tmp_path / "in", order, protocol)[0]
    except SeriesError as error:
        before = str(error)
    try:
        parcel = pack(tmp_path / "in", keep, order=None)
        with zipfile.ZipFile(parcel.path) as opened:
            opened.extractall(tmp_path / "out")
        after = intake(tmp_path / "out" / "study", order, protocol)[0]
    except SeriesError as error:
        after = str(error)
    if isinstance(before, str) or isinstance(after, str):
        assert before == after
        return
    assert np.array_equal(before.hu, after.hu)
    assert np.array_equal(before.affine, after.affine)
    assert before.record.corrections == after.record.corrections


@pytest.mark.data
def test_real_scanners_series_keep_their_volume(tmp_path: Path, keep: Keep, test_data: Path) -> None:
    study = test_data / "awkward" / "jpeg2000-slab"  # Siemens, JPEG 2000, UIDs and patient left empty
    parcel = pack(study, keep, order=None)
    with zipfile.ZipFile(parcel.path) as opened:
        opened.extractall(tmp_path / "out")
        manifest = json.loads(opened.read("parcel.json"))
    assert manifest["images"] == 20
    order = Order.model_construct(case=parcel.case, due=_DUE)
    before, _ = intake(study, order, Protocol.model_construct(**_WIDE))
    after, _ = intake(tmp_path / "out" / "study", order, Protocol.model_construct(**_WIDE))
    assert np.array_equal(before.hu, after.hu)
    assert np.array_equal(before.affine, after.affine)
    assert b"Petersgraben" not in parcel.path.read_bytes()
    assert b"SNOWFOX" not in parcel.path.read_bytes()

"""The markers of compressed images: loss under a lossless name is noticed; no codec sees a stream whose structure is broken."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import JPEG2000, UID, JPEG2000Lossless, JPEGLSLossless, JPEGLSNearLossless

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.inspection import inspect_for
from batchone.pipeline.intake.jpeg import DCT, LOSSLESS, loses, read_opening, refuse_unsound_jpeg
from batchone.pipeline.intake.make import intake
from batchone.pipeline.limits import Protocol
from batchone.pipeline.order import Order
from batchone.samples.traps import trap, write_trap

STRICT = Protocol(
    max_slice_spacing_mm=5.0,
    warn_slice_spacing_mm=4.0,
    max_slice_thickness_mm=6.0,
    max_pixel_mm=2.0,
    max_gantry_tilt_deg=0.5,
    min_slices=3,
    source="test",
)
DUE = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)
ORDER = Order(case="c-1", device="anatomical-model", side="left", process="pa12-sls", machine="sim-01", due=DUE)


def mislabelled(folder: Path, real: UID, stated: UID, **options: Any) -> Path:
    """A series compressed by ``real`` that names the syntax ``stated``, and says nothing of loss."""
    folder.mkdir()
    for number, item in enumerate(trap("plain").make().objects):
        item.compress(real, generate_instance_uid=False, **options)
        for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in item:
                delattr(item, keyword)
        item.file_meta.TransferSyntaxUID = stated
        item.save_as(folder / f"IM{number}", enforce_file_format=True)
    return folder


MISLABELLED: dict[str, tuple[UID, UID, dict[str, Any]]] = {
    "JPEG-LS within 2": (JPEGLSNearLossless, JPEGLSLossless, {"jls_error": 2}),
    "JPEG 2000 with the 9-7 wavelet": (JPEG2000, JPEG2000Lossless, {"j2k_cr": [8]}),
}


@pytest.mark.parametrize("name", MISLABELLED)
def test_images_compressed_with_loss_under_a_lossless_name_are_lossy(name: str, tmp_path: Path) -> None:
    real, stated, options = MISLABELLED[name]
    study = mislabelled(tmp_path / "study", real, stated, **options)
    with pytest.raises(SeriesError, match="compressed with loss"):
        intake(study, ORDER, STRICT)
    report = inspect_for(study, "cranial-implant")
    assert "series compressed with loss is 1" in report.tree["refusal"]
    scan, _ = intake(study, ORDER, STRICT.model_copy(update={"allow_lossy": True}))
    assert [one.verdict for one in scan.findings if one.check == "lossy-images"] == ["warn"]


def test_loss_is_noticed_in_frames_and_behind_a_long_comment(tmp_path: Path) -> None:
    (item,) = trap("enhanced").make().objects
    item.compress(JPEGLSNearLossless, generate_instance_uid=False, jls_error=2)
    item.file_meta.TransferSyntaxUID = JPEGLSLossless
    frames = list(pydicom.encaps.generate_frames(item.PixelData, number_of_frames=int(item.NumberOfFrames)))
    comment = b"\xff\xfe" + (9000).to_bytes(2, "big") + bytes(8998)
    item.PixelData = pydicom.encaps.encapsulate([frame[:2] + comment + frame[2:] for frame in frames])
    item.LossyImageCompression = "00"
    item.save_as(tmp_path / "one", enforce_file_format=True)
    with pytest.raises(SeriesError, match="compressed with loss"):
        intake(tmp_path, ORDER, STRICT)


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "name", "syntax", "lossy"),
    [
        ("compsamples_jpegls", "JLSN", "80", True),
        ("compsamples_jpegls", "JLSL", "80", False),
        ("compsamples_j2k", "J2KI", "90", True),
        ("compsamples_j2k", "J2KR", "90", False),
        ("compsamples_jpeg", "JPLL", "70", False),
    ],
)
def test_the_nema_images_tell_what_they_are(test_data: Path, folder: str, name: str, syntax: str, lossy: bool) -> None:
    for path in sorted((test_data / "awkward/nema_wg04/medical.nema.org" / folder / "IMAGES" / name).iterdir()):
        (stream,) = pydicom.encaps.generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1)
        assert loses(syntax, stream) == lossy


# --- lossless JPEG before its decoder ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sound lossless JPEG of 34 x 44 pixels of 16 bits: SOI, SOF3 at 2, DHT at 15, SOS at 46, data at 56, EOI at the end."""
    folder = tmp_path_factory.mktemp("stream")
    write_trap(trap("jpeg-lossless"), folder)
    item = pydicom.dcmread(sorted(folder.iterdir())[0])
    (found,) = pydicom.encaps.generate_frames(item.PixelData, number_of_frames=1)
    found = found[: found.rindex(b"\xff\xd9") + 2]
    assert (found[3], found[16], found[47]) == (0xC3, 0xC4, 0xDA)
    return bytes(found)


def sound(data: bytes, *, processes: frozenset[int] = frozenset({LOSSLESS}), bits_stored: int = 12) -> None:
    refuse_unsound_jpeg(data, processes=processes, rows=34, columns=44, bits_stored=bits_stored)


def at(place: int, *values: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:place] + bytes(values) + data[place + len(values) :]


def inserted(place: int, segment: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:place] + segment + data[place:]


APPLICATION = b"\xff\xe0\x00\x04ab"
RESTARTS = b"\xff\xdd\x00\x04\x00\x2c"

SOUND: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda data: data,
    "with a comment and fill bytes": inserted(2, APPLICATION + b"\xff\xff"),
    "with what lies behind its end": lambda data: data + b"\0\0",
    "with 12 bits": at(6, 12),
    "with restarts": lambda data: inserted(46, RESTARTS)(data)[:-2] + b"\xff\xd0\x01\xff\xd1\x02\xff\xd9",
}
UNSOUND: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "no start": at(0, 0xFF, 0xD9),
    "another process": at(3, 0xC1),
    "two frames": lambda data: data[:15] + data[2:15] + data[15:],
    "a frame header too long": at(5, 12),
    "no precision": at(6, 0),
    "17 bits": at(6, 17),
    "another number of rows": at(8, 35),
    "another number of columns": at(10, 45),
    "two components": at(11, 2),
    "no sampling": at(13, 0x01),
    "a segment beyond the end": at(17, 0xFF, 0xFF),
    "a segment shorter than its length": at(17, 0, 1),
    "a table of another kind": at(19, 0x44),
    "more codes than there are": at(20, 3),
    "a table without codes": at(20, *([0] * 16)),
    "a category of 17 bits": at(36, 17),
    "one category twice": lambda data: at(37, data[36])(data),
    "a table that is not there": at(52, 0x10),
    "another component": at(51, 9),
    "no predictor": at(53, 0),
    "predictor 8": at(53, 8),
    "an end of the spectrum": at(54, 1),
    "a point transform beyond the bits": lambda data: at(55, 12)(at(6, 12)(data)),
    "an unknown segment": inserted(2, b"\xff\x03\x00\x02"),
    "an empty scan": lambda data: data[:56] + b"\xff\xd9",
    "no end": lambda data: data[:-2],
    "a marker in the scan": lambda data: data[:-2] + b"\xff\xda\x00\xff\xd9",
    "restarts that were not promised": lambda data: data[:-2] + b"\xff\xd0\x01\xff\xd9",
    "restarts out of turn": lambda data: inserted(46, RESTARTS)(data)[:-2] + b"\xff\xd1\x01\xff\xd9",
    "a restart interval of four bytes": inserted(46, b"\xff\xdd\x00\x06\x00\x00\x00\x2c"),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_stream_goes_to_the_decoder(name: str, stream: bytes) -> None:
    sound(SOUND[name](stream))


@pytest.mark.parametrize("name", UNSOUND)
def test_a_broken_stream_does_not(name: str, stream: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        sound(UNSOUND[name](stream))


def test_any_length_but_the_whole_is_no_sound_stream(stream: bytes) -> None:
    for length in range(len(stream)):
        with pytest.raises(ValueError, match=r"\w"):
            sound(stream[:length])


def test_precision_and_process_are_those_of_the_header(stream: bytes) -> None:
    with pytest.raises(ValueError, match="precision"):
        sound(at(6, 7)(stream))
    sound(at(6, 7)(stream), bits_stored=8)
    with pytest.raises(ValueError, match="process"):
        sound(stream, processes=DCT)


def test_what_a_lossless_jpeg_states_is_read_and_shifted_bits_are_loss(stream: bytes) -> None:
    opening = read_opening(stream)
    assert (opening.process, opening.precision, opening.rows, opening.columns) == (LOSSLESS, 16, 34, 44)
    assert not loses("70", stream)
    assert loses("70", at(55, 1)(stream))
    assert loses("57", at(3, 0xC0)(stream))

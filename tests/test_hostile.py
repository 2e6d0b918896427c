"""Hostile input: every file gets an answer with a reason, within time and memory, and nothing outside the study is touched."""

from __future__ import annotations

import datetime as dt
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchone.design.families import load_families
from batchone.pipeline.errors import InputError, SeriesError
from batchone.pipeline.inspection import inspect_for
from batchone.pipeline.intake import decoder, package
from batchone.pipeline.intake.fragments import frame_places, joined
from batchone.pipeline.intake.header import read_header
from batchone.pipeline.intake.make import intake
from batchone.pipeline.intake.package import FileSource, MemorySource
from batchone.pipeline.order import Order
from batchone.samples.traps import trap, write_trap

MAX_FILE_S = 5.0  # of processor time, children included: a shared machine cannot slow that down
MAX_EXTRA_BYTES = 512_000_000
EXAMPLES = int(os.environ.get("BATCHONE_FUZZ_EXAMPLES", "4"))  # mutations of each compressed syntax; a long run sets more
SYNTAXES = ("explicit", "big-endian", "deflated", "enhanced", "rle", "jpeg-lossless", "jpeg-ls", "jpeg-2000")
COMPRESSED = ("rle", "jpeg-lossless", "jpeg-ls", "jpeg-2000")
DEVICE = "anatomical-model"
PROTOCOL = load_families()[DEVICE].limits.protocol.model_copy(update={"min_slices": 3})  # the samples are small
DUE = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)
ORDER = Order(case="c1", device=DEVICE, side="left", process="pa12-sls", machine="sim-01", due=DUE)


@contextmanager
def bounded(declared_bytes: int = 0) -> Iterator[None]:
    """The block takes no more time and memory than one file may."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    held, started = _peak_bytes("self"), os.times()
    done, children = threading.Event(), [0]
    watcher = threading.Thread(target=_watch_children, args=(done, children), daemon=True)
    watcher.start()
    yield
    ended = os.times()
    done.set()
    watcher.join()
    spent_s = sum(ended[:4]) - sum(started[:4])
    assert spent_s < MAX_FILE_S, f"{spent_s:.1f} s"
    assert _peak_bytes("self") - held < MAX_EXTRA_BYTES + declared_bytes
    assert children[0] < MAX_EXTRA_BYTES + declared_bytes


def _peak_bytes(process: str) -> int:
    """The most a process ever held; 0 once it has ended."""
    try:
        status = Path("/proc", process, "status").read_text()
    except OSError:
        return 0
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 if "VmHWM:" in status else 0


def _started(process: str) -> bool:
    """Whether a child runs its own program; between fork and exec it is its parent, with all the memory that the parent holds."""
    try:
        return Path("/proc", process, "cmdline").read_bytes() != Path("/proc/self/cmdline").read_bytes()
    except OSError:
        return False


def _watch_children(done: threading.Event, most_bytes: list[int]) -> None:
    while not done.wait(0.02):
        for thread in Path("/proc/self/task").iterdir():
            try:
                found = (thread / "children").read_text().split()
            except OSError:
                continue
            most_bytes[0] = max([most_bytes[0], *(_peak_bytes(child) for child in found if _started(child))])


def survive(study: Path, *, declared_bytes: int = 0) -> str:
    """Inspect a study and take it in; the verdict is ``taken``, or the reason why not."""
    with bounded(declared_bytes):
        try:
            report = inspect_for(study, DEVICE)
            assert all(one["readable"] or one["reason"] for one in report.tree["series"])
            intake(study, ORDER, PROTOCOL)
        except InputError as refused:
            verdict = f"{refused} | {refused.hint}"
        else:
            verdict = "taken"
    assert len(verdict.split(" | ")[-1]) > 3, "a refusal says what to do"
    return verdict


# --- the corpus ----------------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_every_file_of_the_hostile_corpus_gets_a_reason(test_data: Path) -> None:
    files = [path for path in sorted((test_data / "hostile" / "dicom").rglob("*")) if path.is_file()]
    assert len(files) > 160
    for path in files:
        assert survive(path) != "taken", path.name  # each is one image, or less


@pytest.mark.data
def test_the_hostile_corpus_as_one_study_is_survived(test_data: Path) -> None:
    assert survive(test_data / "hostile" / "dicom") != "taken"


# --- mutations -----------------------------------------------------------------------------------------------------------------

Mutation = tuple[str, str, float, int]
MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(("byte", "cut", "length", "drop", "repeat", "zero")),
        st.sampled_from(("header", "pixels")),
        st.floats(0.0, 1.0, exclude_max=True),
        st.sampled_from((0, 1, 2, 7, 0x40, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)),
    ),
    min_size=1,
    max_size=4,
)


def mutated(content: bytes, mutations: list[Mutation], split: int) -> bytes:
    """Damage a file; ``split`` is where its header ends."""
    data = bytearray(content)
    for kind, region, place, value in mutations:
        low, high = (0, split) if region == "header" else (split, len(data))
        at = min(low + int(place * max(high - low, 0)), max(len(data) - 1, 0))
        if kind == "byte" and data:
            data[at] = value & 0xFF
        elif kind == "cut":
            del data[at:]
        elif kind == "length":
            data[at : at + 4] = value.to_bytes(4, "little")
        elif kind == "drop":
            del data[at : at + 1 + value % 64]
        elif kind == "repeat":
            data[at:at] = data[at : at + 1 + value % 256] * (1 + value % 5)
        else:
            data[at : at + 1 + value % 4096] = bytes(1 + value % 4096)
    return bytes(data)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Small series by transfer syntax, each made once."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            write_trap(trap(name), made[name])
        return made[name]

    return folder


@pytest.mark.parametrize("name", SYNTAXES)
def test_no_mutation_of_a_file_crashes_hangs_or_fills_the_memory(name: str, series: Callable[[str], Path]) -> None:
    folder = series(name)
    victim = sorted(folder.iterdir())[0]
    content = victim.read_bytes()
    split = max(content.rfind(b"\xe0\x7f\x10\x00"), content.rfind(b"\x7f\xe0\x00\x10"), 400)
    verdicts: set[str] = set()

    @settings(
        max_examples=EXAMPLES if name in COMPRESSED else 4 * EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(MUTATIONS)
    def attack(mutations: list[Mutation]) -> None:
        victim.write_bytes(mutated(content, mutations, split))
        verdicts.add(survive(folder))

    try:
        assert survive(folder) == "taken"  # what is attacked is sound
        attack()
    finally:
        victim.write_bytes(content)
    assert len(verdicts) > 1, "no mutation was refused"


class Child:
    """The decoding child alone; it is started anew where a codestream ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.deaths = 0

    def decode(self, data: bytes, **head: object) -> bytes | None:
        """The pixels, or None where the child refused or ended."""
        command = [sys.executable, "-I", "-S", "-B", decoder.__file__, json.dumps(sys.path)]
        if self._process is None:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        text = json.dumps(head).encode()
        self._process.stdin.write(decoder.REQUEST.pack(len(text), len(data)) + text + data)
        status = self._process.stdout.read(1)
        if status == b"":
            self._process.wait()
            self.close()
            self.deaths += 1
            return None
        size = 2 * int(str(head["rows"])) * int(str(head["columns"]))
        pixels = b""
        while status == decoder.DECODED and len(pixels) < size:
            pixels += self._process.stdout.read(size - len(pixels)) or b""
        assert not select.select([self._process.stdout], [], [], 0)[0], "more was answered than was asked for"
        return pixels if status == decoder.DECODED else None

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            for end in (self._process.stdin, self._process.stdout):
                if end is not None:
                    end.close()
            self._process.wait()
            self._process = None


@pytest.mark.parametrize("name", COMPRESSED)
def test_the_decoding_child_answers_every_damaged_codestream_in_time(name: str, series: Callable[[str], Path]) -> None:
    path = sorted(series(name).iterdir())[0]
    image = pydicom.dcmread(path)
    head = {"syntax": str(image.file_meta.TransferSyntaxUID), "rows": image.Rows, "columns": image.Columns}
    head |= {"bits_stored": image.BitsStored, "signed": bool(image.PixelRepresentation)}
    header = read_header(source := FileSource(path, path.stat().st_size))
    assert header is not None
    (spans,) = frame_places(source, header.pixels_at or 0, frames=1)
    data = joined(source, spans, pixels_bytes=2 * image.Rows * image.Columns)
    child = Child()

    @settings(max_examples=20 * EXAMPLES, derandomize=True, deadline=None, database=None)
    @given(MUTATIONS)
    def attack(mutations: list[Mutation]) -> None:
        started_s = sum(os.times()[2:4])
        child.decode(mutated(data, mutations, min(64, len(data))), **head)
        assert sum(os.times()[2:4]) - started_s < MAX_FILE_S  # counted when a child has ended

    try:
        assert child.decode(data, **head) == image.pixel_array.astype("<u2").tobytes()
        attack()
        assert child.decode(data, **head) is not None
        for length in range(0, len(data), max(len(data) // 40, 1)):
            child.decode(data[:length], **head)
        assert child.deaths == 0
    finally:
        child.close()


def test_a_jpeg_ls_image_without_its_end_is_refused_at_once(series: Callable[[str], Path]) -> None:
    """CharLS searches for seconds where the end marker is missing."""
    path = sorted(series("jpeg-ls").iterdir())[0]
    content = path.read_bytes()
    image = pydicom.dcmread(path)
    frame = image.PixelData[16:]
    place = content.rfind(frame[:64])
    try:
        path.write_bytes(content[: place + len(frame) // 2])
        started = os.times()
        assert survive(path.parent) != "taken"
        ended = os.times()
        assert sum(ended[:4]) - sum(started[:4]) < 3.0
    finally:
        path.write_bytes(content)


def test_a_codestream_of_another_size_than_stated_never_reaches_the_codec(series: Callable[[str], Path]) -> None:
    folder = series("jpeg-ls")
    path = sorted(folder.iterdir())[0]
    content = path.read_bytes()
    at = content.rfind(b"\xff\xf7\x00\x0b") + 5  # rows and columns of the JPEG-LS frame
    try:
        path.write_bytes(content[:at] + struct.pack(">HH", 60000, 60000) + content[at + 4 :])
        assert "does not decode to the rows and columns" in survive(folder)
    finally:
        path.write_bytes(content)


def test_an_image_may_state_a_huge_size_without_taking_the_memory(tmp_path: Path, series: Callable[[str], Path]) -> None:
    for path in series("jpeg-2000").iterdir():
        image = pydicom.dcmread(path)
        image.Rows = image.Columns = 4096
        image.save_as(tmp_path / path.name, enforce_file_format=True)
    assert "does not decode" in survive(tmp_path, declared_bytes=16 * 2 * 4096 * 4096)


def test_a_deflated_bomb_is_refused(tmp_path: Path, series: Callable[[str], Path]) -> None:
    content = sorted(series("deflated").iterdir())[0].read_bytes()
    start = 132 + 12 + struct.unpack_from("<I", content, 140)[0]
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = engine.compress(bytes(100_000_000)) + engine.flush()
    (tmp_path / "bomb").write_bytes(content[:start] + bomb)
    assert "unreadable DICOM files: 1" in survive(tmp_path)


# --- zips ----------------------------------------------------------------------------------------------------------------------


def written(path: Path, entries: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def nested(path: Path) -> Path:
    inner = written(path.with_suffix(".inner"), {"image": bytes(50_000_000)}).read_bytes()
    return written(path, {f"{number}.zip": inner for number in range(8)}, method=zipfile.ZIP_STORED)


def overlapping(path: Path) -> Path:
    """Two entries in the list, one body: the second lies over the first."""
    written(path, {"one": bytes(range(256)) * 40, "two": b"x"}, method=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    second = content.rfind(b"PK\x01\x02")
    content[second + 42 : second + 46] = struct.pack("<I", 100)  # into the body of the first
    path.write_bytes(content)
    return path


def encrypted(path: Path) -> Path:
    written(path, {"image": b"secret" * 100})
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(magic) + offset] |= 1
    path.write_bytes(content)
    return path


def linked(path: Path) -> Path:
    link = zipfile.ZipInfo("image")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/hostname")
    return path


def doubled(path: Path) -> Path:
    written(path, {"image-1": b"one", "image-2": b"two"})
    path.write_bytes(path.read_bytes().replace(b"image-2", b"image-1"))
    return path


ZIPS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "flat bomb": (lambda path: written(path, {"image": bytes(150_000_000)}), "times its size"),
    "nested bomb": (nested, "no DICOM file"),
    "overlapping": (overlapping, "lie over each other"),
    "many entries": (lambda path: written(path, {f"i{k}": b"" for k in range(6001)}), "more than 6000 files"),
    "upwards": (lambda path: written(path, {"../../outside/image": b"x"}), "points outside"),
    "upwards, as on Windows": (lambda path: written(path, {"a\\..\\..\\image": b"x"}), "points outside"),
    "absolute": (lambda path: written(path, {"/outside/image": b"x"}), "points outside"),
    "drive": (lambda path: written(path, {"C:/outside/image": b"x"}), "points outside"),
    "link": (linked, "symbolic link"),
    "doubled": (doubled, "two entries of one name"),
    "encrypted": (encrypted, "is encrypted"),
    "cut": (lambda path: cut(written(path, {"image": b"x" * 9000})), ""),
}


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-30])
    return path


@pytest.mark.parametrize("kind", ZIPS)
def test_a_hostile_zip_is_refused_and_nothing_is_written(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, words = ZIPS[kind]
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    archive = make(inside / "study.zip")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(inside)
    verdict = survive(archive)
    assert verdict != "taken"
    assert words in verdict
    assert sorted(tmp_path.rglob("*")) == before


def test_a_sound_zip_beside_the_hostile_ones_is_taken(tmp_path: Path, series: Callable[[str], Path]) -> None:
    files = {path.name: path.read_bytes() for path in series("explicit").iterdir()}
    assert survive(written(tmp_path / "study.zip", files)) == "taken"


# --- nothing is followed out of a study ----------------------------------------------------------------------------------------


@pytest.mark.data
def test_a_dicomdir_is_never_followed(test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directories = sorted((test_data / "awkward" / "pydicom_dicomdir").rglob("DICOMDIR*"))
    directories = [path for path in directories if path.is_file()]
    assert directories
    opened: list[Path] = []
    real = os.open
    monkeypatch.setattr(package.os, "open", lambda path, *rest: (opened.append(Path(path)), real(path, *rest))[1])
    for number, path in enumerate(directories):
        # the images that it names lie around it, as they did when it was written: beside, and where its paths lead
        around = tmp_path / str(number)
        shutil.copytree(path.parent, around / "images")
        study = around / "study"
        study.mkdir()
        shutil.copy(path, study / "DICOMDIR")
        opened.clear()
        verdict = survive(study)
        assert verdict != "taken"
        assert opened
        assert all(one.is_relative_to(study) for one in opened)


def test_links_out_of_a_study_are_never_opened(tmp_path: Path, series: Callable[[str], Path]) -> None:
    study = tmp_path / "study"
    study.mkdir()
    for path in series("explicit").iterdir():
        (study / path.name).symlink_to(path)
    assert survive(study) != "taken"


# --- fragments -----------------------------------------------------------------------------------------------------------------


def encapsulated(*fragments: bytes, table: bytes = b"", end: bool = True) -> MemorySource:
    items = b"".join(struct.pack("<4sI", b"\xfe\xff\x00\xe0", len(one)) + one for one in (table, *fragments))
    return MemorySource(items + (b"\xfe\xff\xdd\xe0\0\0\0\0" if end else b""))


def frames_of(source: MemorySource, frames: int) -> list[bytes]:
    return [joined(source, spans, pixels_bytes=1000) for spans in frame_places(source, 0, frames=frames)]


def test_the_fragments_of_each_frame_are_found_by_count_table_or_start() -> None:
    assert frames_of(encapsulated(b"ab", b"cd"), 1) == [b"abcd"]
    assert frames_of(encapsulated(b"ab", b"cd"), 2) == [b"ab", b"cd"]
    assert frames_of(encapsulated(b"ab", b"cd", b"ef", table=struct.pack("<2I", 0, 20)), 2) == [b"abcd", b"ef"]
    assert frames_of(encapsulated(b"\xff\xd8", b"cd", b"\xff\xd8"), 2) == [b"\xff\xd8cd", b"\xff\xd8"]
    assert frames_of(encapsulated(b"ab", end=False), 1) == [b"ab"]


def test_fragments_that_are_cut_off_or_do_not_fit_the_frames_are_refused() -> None:
    whole = encapsulated(b"abcd", b"efgh").content
    for broken in (whole[:3], whole[:12], whole[:18], b"\0" * 40, encapsulated().content):
        with pytest.raises(SeriesError, match="cut off or damaged"):
            frame_places(MemorySource(broken), 0, frames=1)
    with pytest.raises(SeriesError, match="hold 0 frames, must be 3"):
        frame_places(MemorySource(whole), 0, frames=3)
    with pytest.raises(SeriesError, match="at most"):
        joined(MemorySource(whole), [(0, 10_000_000)], pixels_bytes=100)


# --- run-length --------------------------------------------------------------------------------------------------------------


def test_run_length_decodes_what_pydicom_encodes() -> None:
    from pydicom.pixels.encoders.native import _encode_frame  # noqa: F401 - the encoder that `compress` uses is there

    rng = np.random.default_rng(3)
    image = np.repeat(rng.integers(0, 4096, (20, 10), dtype=np.uint16), 3, axis=1)
    data = pydicom.Dataset()
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 20, 30, 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelData = image.tobytes()
    data.SOPClassUID, data.SOPInstanceUID = pydicom.uid.CTImageStorage, "2.25.1"
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.compress(pydicom.uid.RLELossless)
    frame = next(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1))
    head = {"syntax": "1.2.840.10008.1.2.5", "rows": 20, "columns": 30, "bits_stored": 16, "signed": False}
    assert decoder.decoded(frame, head, decoder.decoder_of(head["syntax"])) == image.astype("<u2").tobytes()

"""The way from the hospital to the site: one parcel, whatever breaks on the way; one case, however often it comes."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from batchone.design.families import load_families
from batchone.pipeline.errors import InputError, MachineError, OrderError, SeriesError
from batchone.pipeline.events import chain_head
from batchone.pipeline.hospital.deliver import deliver
from batchone.pipeline.hospital.keep import Keep
from batchone.pipeline.hospital.parcel import Parcel, pack
from batchone.pipeline.hospital.sendable import ADVISED_AGE_DAYS
from batchone.pipeline.intake.inbox import Accepted, Inbox, accept, accept_all
from batchone.pipeline.intake.parcel_file import MAX_PARCEL_BYTES, opened_parcel, study_case
from batchone.samples.dicom import DATE, write_series

CASE = "case-0001"
ORDER = (
    f'case = "{CASE}"\ndevice = "anatomical-model"\nside = "left"\nprocess = "pa12-sls"\nmachine = "sim-01"\n'
    "due = 2026-02-01T08:00:00Z\n"
)
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    hu = np.random.default_rng(1).integers(-1000, 2000, (5, 64, 64)).astype(np.int16)
    write_series(hu, np.diag([0.5, 0.5, 1.0, 1.0]), folder, mess=True)
    return folder


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    return Keep.open(tmp_path / "keep")


@pytest.fixture
def order(tmp_path: Path) -> Path:
    path = tmp_path / "order.toml"
    path.write_text(ORDER)
    return path


def _large(folder: Path) -> Parcel:
    """A file as large as a small series; delivery does not look inside."""
    content = np.random.default_rng(2).bytes(8 * MEGABYTE + 12345)
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{digest}.batchone"
    path.write_bytes(content)
    return Parcel(path, digest, CASE, len(content), 1)


def test_the_same_study_and_order_give_the_same_bytes_from_any_folder_or_zip(
    tmp_path: Path, study: Path, keep: Keep, order: Path
) -> None:
    first = pack(study, keep, order=order, case=CASE)
    assert first.path.name == f"{hashlib.sha256(first.path.read_bytes()).hexdigest()}.batchone"
    assert pack(study, keep, order=order, case=CASE) == first
    for number, path in enumerate(sorted(study.iterdir(), reverse=True)):
        target = tmp_path / "other" / f"{number}"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as packed:
        for path in (tmp_path / "other").iterdir():
            packed.write(path, f"x/{path.name}")
    assert pack(tmp_path / "other", keep, order=order).digest == first.digest
    assert pack(tmp_path / "other.zip", keep, order=order).digest == first.digest
    assert pack(study, Keep.open(tmp_path / "another"), order=order).digest != first.digest
    assert dict(first.left_out) == {"captures (dose, text or screen)": 1, "files that are not DICOM": 1, "localizers": 1}
    assert not list(keep.outbox.glob(".*"))


def test_a_parcel_becomes_a_case_that_can_be_run(tmp_path: Path, study: Path, keep: Keep, order: Path) -> None:
    parcel = pack(study, keep, order=order, case=CASE)
    receipt = deliver(parcel, tmp_path / "site")
    assert receipt.new
    folder = tmp_path / "site" / "cases" / CASE
    assert accept_all(tmp_path / "site") == (Accepted(CASE, folder, True),)
    assert sorted(path.name for path in folder.iterdir()) == ["events.jsonl", "order.toml", "parcel.json", "study"]
    assert [path.name for path in sorted((folder / "study").iterdir())] == [f"{k:06d}.dcm" for k in range(1, 6)]
    assert chain_head(folder / "events.jsonl") is not None
    events = [json.loads(line)["what"] for line in (folder / "events.jsonl").read_text().splitlines()]
    assert events == ["order received", "study received"]
    assert not receipt.place.exists()
    assert not list((tmp_path / "site" / "cases").glob(".*"))


def test_a_study_without_an_order_waits_for_one_under_a_name_of_its_own(tmp_path: Path, study: Path, keep: Keep) -> None:
    parcel = pack(study, keep, order=None)
    with opened_parcel(parcel.path) as (_, manifest):
        assert parcel.case == manifest.case == study_case(manifest.study_uid)
    deliver(parcel, tmp_path / "site")
    taken = accept_all(tmp_path / "site")[0]
    assert taken.case == parcel.case
    assert not (taken.folder / "order.toml").exists()
    assert keep.recall(parcel.case) is not None


def test_an_order_that_comes_later_joins_the_study_that_waits_for_it(
    tmp_path: Path, study: Path, keep: Keep, order: Path
) -> None:
    site = tmp_path / "site"
    case = accept(site, deliver(pack(study, keep, order=None), site).place).case
    order.write_text(ORDER.replace(CASE, case).replace("anatomical-model", "unheard-of"))
    with pytest.raises(OrderError):
        pack(study, keep, order=order)
    order.write_text(ORDER.replace(CASE, case))
    place = deliver(pack(study, keep, order=order), site).place
    taken = accept(site, place)
    assert (taken.case, taken.new) == (case, True)
    assert tomllib.loads((taken.folder / "order.toml").read_text())["case"] == case
    assert chain_head(taken.folder / "events.jsonl") is not None
    assert not accept(site, place).new
    order.write_text(ORDER.replace(CASE, case).replace('"left"', '"right"'))
    with pytest.raises(InputError, match="another order or study"):
        accept(site, deliver(pack(study, keep, order=order), site).place)


def test_a_case_that_was_removed_at_the_site_can_be_sent_again(tmp_path: Path, study: Path, keep: Keep, order: Path) -> None:
    site = tmp_path / "site"
    parcel = pack(study, keep, order=order)
    folder = accept(site, deliver(parcel, site).place).folder
    shutil.rmtree(folder)
    receipt = deliver(parcel, site)
    assert receipt.new
    assert accept(site, receipt.place).new
    assert (folder / "order.toml").exists()


def test_the_same_parcel_again_changes_nothing(tmp_path: Path, study: Path, keep: Keep, order: Path) -> None:
    parcel = pack(study, keep, order=order)
    receipt = deliver(parcel, tmp_path / "site")
    assert not deliver(parcel, tmp_path / "site").new  # it waits
    assert accept(tmp_path / "site", receipt.place).new
    again = deliver(parcel, tmp_path / "site")  # it was taken in
    assert (again.new, again.bytes) == (False, parcel.bytes)
    assert not accept(tmp_path / "site", again.place).new
    assert len((tmp_path / "site" / "cases" / CASE / "events.jsonl").read_text().splitlines()) == 2
    shutil.copy(parcel.path, receipt.place)  # brought by hand
    assert not accept(tmp_path / "site", receipt.place).new
    assert not receipt.place.exists()


def test_another_order_or_study_under_the_same_case_is_refused_and_set_aside(
    tmp_path: Path, study: Path, keep: Keep, order: Path
) -> None:
    site = tmp_path / "site"
    accept(site, deliver(pack(study, keep, order=order), site).place)
    before = sorted((path, path.read_bytes()) for path in (site / "cases").rglob("*") if path.is_file())
    order.write_text(ORDER.replace('"left"', '"right"'))
    other = pack(study, keep, order=order)
    with pytest.raises(InputError, match="exists at the site with another order or study") as caught:
        accept(site, deliver(other, site).place)
    assert caught.value.exit_code == 2
    assert caught.value.case_id == CASE
    assert sorted((path, path.read_bytes()) for path in (site / "cases").rglob("*") if path.is_file()) == before
    refusal = Inbox(site).refusals()[0]
    assert (refusal.digest, refusal.case) == (other.digest, CASE)
    assert (site / "inbox" / "refused" / f"{other.digest}.batchone").exists()
    assert Inbox(site).waiting() == ()


def test_a_case_that_was_made_at_the_site_is_never_overwritten(tmp_path: Path, study: Path, keep: Keep, order: Path) -> None:
    site = tmp_path / "site"
    (site / "cases" / CASE).mkdir(parents=True)
    with pytest.raises(InputError, match="another order or study"):
        accept(site, deliver(pack(study, keep, order=order), site).place)
    assert list((site / "cases" / CASE).iterdir()) == []


def test_a_plan_beside_the_order_travels_in_it(tmp_path: Path, study: Path, keep: Keep, order: Path) -> None:
    points = [{"position": [1.0, 2.0, 3.0]}, {"position": [1.0, 2.0, 33.0]}]
    line = {"type": "Line", "coordinateSystem": "RAS", "controlPoints": points}
    (tmp_path / "t9-left.mrk.json").write_text(json.dumps({"markups": [line]}))
    order.write_text(ORDER + '[plan]\nmarkups = ["t9-left.mrk.json"]\n')
    parcel = pack(study, keep, order=order, case=CASE)
    with zipfile.ZipFile(parcel.path) as opened:
        (drawn,) = tomllib.loads(opened.read("order.toml").decode())["plan"]["lines"]
    assert drawn == {"name": "t9-left", "start_mm": [-1.0, -2.0, 3.0], "end_mm": [-1.0, -2.0, 33.0], "locked": False}
    (tmp_path / "TEST^ALPHA.mrk.json").write_text(json.dumps({"markups": [line]}))
    order.write_text(ORDER + '[plan]\nmarkups = ["TEST^ALPHA.mrk.json"]\n')
    with pytest.raises(OrderError, match="names or numbers of the patient"):
        pack(study, keep, order=order, case=CASE)


def test_an_order_that_names_the_patient_is_refused(study: Path, keep: Keep, order: Path) -> None:
    for text in ("for Mr Alpha", "patient TEST-0001", "born 01.01.1970", "1970-01-01", "Dr. REFERRER", "see TEST-A-0001"):
        order.write_text(ORDER + f'[prescription]\nprescriber = "code-17"\ncharacteristics = "{text}"\n')
        with pytest.raises(OrderError, match=r"holds [12] names or numbers of the patient") as caught:
            pack(study, keep, order=order)
        assert text.split()[-1] not in str(caught.value) + caught.value.hint
    order.write_text(ORDER + '[prescription]\nprescriber = "code-17"\ncharacteristics = "the alphabet, tested in 1970"\n')
    assert pack(study, keep, order=order).images == 5
    with pytest.raises(OrderError, match="the parcel for case other"):
        pack(study, keep, order=order, case="other")


def test_images_with_burned_in_text_stay_behind_and_are_listed(tmp_path: Path, study: Path, keep: Keep) -> None:
    shutil.copytree(study, tmp_path / "in")
    images = [path for path in sorted((tmp_path / "in").iterdir()) if path.name.startswith("IM")]
    slices = [
        path for path in images if dcmread(path, force=True).get("ConvolutionKernel") and "AXIAL" in dcmread(path).ImageType
    ]
    for path in slices[:2]:
        item = dcmread(path)
        item.BurnedInAnnotation = "YES"
        item.save_as(path)
    parcel = pack(tmp_path / "in", keep, order=None)
    assert (parcel.images, dict(parcel.left_out)["CT images with burned-in text"]) == (3, 2)
    assert {one.name for one in parcel.advice} >= {"burned-in-text", "recognisable-face"}
    for path in slices[2:]:
        item = dcmread(path)
        item.BurnedInAnnotation = "YES"
        item.save_as(path)
    with pytest.raises(SeriesError, match="all 5 CT images have text burned in"):
        pack(tmp_path / "in", keep, order=None)


def test_an_old_scan_is_told_to_the_hospital_in_days_and_to_the_site_without_a_date(study: Path, keep: Keep, order: Path) -> None:
    advised = load_families()["anatomical-model"].limits.protocol.warn_scan_age_days or ADVISED_AGE_DAYS
    made = dt.date.fromisoformat(DATE)

    def packed(days: int) -> Parcel:
        order.write_text(ORDER.replace("2026-02-01", (made + dt.timedelta(days)).isoformat()))
        return pack(study, keep, order=order)

    assert "scan-age" not in {one.name for one in packed(advised).advice}
    parcel = packed(advised + 1)
    told = next(one for one in parcel.advice if one.name == "scan-age")
    assert f"{advised + 1} days old" in told.here
    with opened_parcel(parcel.path) as (_, manifest):
        assert f"{advised + 1} days" not in manifest.text().decode()
        assert told.there in manifest.warnings


def test_a_delivery_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    parcel = _large(tmp_path)
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from batchone.pipeline.hospital.deliver import deliver\nfrom batchone.pipeline.hospital.parcel import Parcel\n"
        f"parcel = Parcel(Path(sys.argv[1]), {parcel.digest!r}, {CASE!r}, {parcel.bytes}, 1)\n"
        "def progress(done, total):\n"
        f"    if done >= {3 * MEGABYTE}:\n        print('half', flush=True)\n        time.sleep(60)\n"
        "deliver(parcel, Path(sys.argv[2]), progress)\n"
    )
    site = tmp_path / "site"
    with subprocess.Popen([sys.executable, "-c", code, str(parcel.path), str(site)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "half\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert Inbox(site).waiting() == ()  # nothing half is visible
    seen: list[int] = []
    receipt = deliver(parcel, site, lambda done, total: seen.append(done))
    assert receipt.new
    assert receipt.resumed_at == seen[0] >= 3 * MEGABYTE
    assert receipt.place.read_bytes() == parcel.path.read_bytes()
    assert list(Inbox(site).incoming.iterdir()) == []


@pytest.mark.parametrize("damage", ["changed", "longer"])
def test_a_broken_start_of_an_earlier_delivery_is_not_believed(tmp_path: Path, damage: str) -> None:
    parcel = _large(tmp_path)
    inbox = Inbox(tmp_path / "site")
    inbox.make()
    content = parcel.path.read_bytes()
    part = inbox.incoming / f"{parcel.digest}.part"
    part.write_bytes(
        content[: 2 * MEGABYTE] + b"x" + content[2 * MEGABYTE + 1 : 4 * MEGABYTE] if damage == "changed" else content + b"x"
    )
    receipt = deliver(parcel, tmp_path / "site")
    assert receipt.place.read_bytes() == content
    assert receipt.resumed_at == (2 * MEGABYTE if damage == "changed" else 8 * MEGABYTE)


def test_a_parcel_that_is_not_what_its_name_says_is_not_delivered(tmp_path: Path) -> None:
    parcel = _large(tmp_path)
    with parcel.path.open("r+b") as stream:
        stream.seek(5 * MEGABYTE)
        stream.write(b"xxxx")
    with pytest.raises(MachineError, match="another digest"):
        deliver(parcel, tmp_path / "site")
    assert Inbox(tmp_path / "site").waiting() == ()
    assert list(Inbox(tmp_path / "site").incoming.iterdir()) == []


_CHILD = """
import resource, sys
from pathlib import Path
from batchone.pipeline.errors import BatchoneError
from batchone.pipeline.hospital.deliver import deliver
from batchone.pipeline.hospital.parcel import Parcel
from batchone.pipeline.intake.inbox import accept_all, Inbox
what, limit, site, path, digest, size = sys.argv[1:7]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    if what == "deliver":
        deliver(Parcel(Path(path), digest, "case-0001", int(size), 1), Path(site))
    else:
        accept_all(Path(site))
except BatchoneError as error:
    print(error)
    print(error.hint)
    sys.exit(error.exit_code)
"""


def _in_child(what: str, parcel: Parcel, site: Path, limit: int) -> subprocess.CompletedProcess[str]:
    arguments = [what, str(limit), str(site), str(parcel.path), parcel.digest, str(parcel.bytes)]
    return subprocess.run([sys.executable, "-c", _CHILD, *arguments], capture_output=True, text=True, check=False)


def test_a_full_disk_at_the_receiver_is_told_and_loses_nothing(tmp_path: Path, study: Path, keep: Keep, order: Path) -> None:
    site = tmp_path / "site"
    parcel = pack(study, keep, order=order)
    done = _in_child("deliver", parcel, site, 20_000)
    assert (done.returncode, "disk full" in done.stdout, "run again" in done.stdout) == (5, True, True)
    assert Inbox(site).waiting() == ()
    receipt = deliver(parcel, site)
    assert receipt.resumed_at > 0
    done = _in_child("accept", parcel, site, 5_000)  # less than one image
    assert (done.returncode, "disk full" in done.stdout) == (5, True)
    assert receipt.place.exists()
    assert list((site / "cases").iterdir()) == []
    assert accept(site, receipt.place).new


def test_a_small_disk_is_told_before_and_while_it_fills(tmp_path: Path, study: Path, keep: Keep, order: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(disk)], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("no right to mount a small disk here; the test above limits the size of files instead")
    try:
        with pytest.raises(MachineError, match=r"disk full: the parcel needs 8\.4 MB more at the site, 0\.\d MB are free"):
            deliver(_large(tmp_path), disk)
        parcel = pack(study, keep, order=order)
        receipt = deliver(parcel, disk)  # 45 kB: it fits once, but not twice
        with pytest.raises(MachineError, match="disk full"):
            accept(disk, receipt.place)
        assert receipt.place.exists()
        assert list((disk / "cases").iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_two_senders_and_two_receivers_at_once_make_one_case(tmp_path: Path, study: Path, keep: Keep, order: Path) -> None:
    site = tmp_path / "site"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom batchone.pipeline.hospital.keep import Keep\n"
        "from batchone.pipeline.hospital.parcel import pack\nfrom batchone.pipeline.hospital.deliver import deliver\n"
        "from batchone.pipeline.intake.inbox import accept\n"
        "study, keep, order, site, start = sys.argv[1:]\n"
        "while not Path(start).exists():\n    time.sleep(0.005)\n"
        "parcel = pack(Path(study), Keep.open(Path(keep)), order=Path(order))\n"
        "receipt = deliver(parcel, Path(site))\ntaken = accept(Path(site), receipt.place)\n"
        "print(receipt.new, taken.new, taken.case)\n"
    )
    arguments = [str(study), str(keep.folder), str(order), str(site), str(tmp_path / "start")]
    children = [subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    time.sleep(0.5)
    (tmp_path / "start").touch()
    said = [child.communicate(timeout=60)[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert sorted(words[0] for words in said) == ["False", "True"]
    assert sorted(words[1] for words in said) == ["False", "True"]
    assert [path.name for path in (site / "cases").iterdir()] == [CASE]
    assert len((site / "cases" / CASE / "events.jsonl").read_text().splitlines()) == 2
    assert chain_head(site / "cases" / CASE / "events.jsonl") is not None


def _rewritten(parcel: Path, site: Path, change: Callable[[dict[str, bytes]], None], *, packed: bool = False) -> Path:
    with zipfile.ZipFile(parcel) as opened:
        entries = {name: opened.read(name) for name in opened.namelist()}
    change(entries)
    inbox = Inbox(site)
    inbox.make()
    with zipfile.ZipFile(site / "new", "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as target:
        for name, content in entries.items():
            target.writestr(name, content)
    place = inbox.place(hashlib.sha256((site / "new").read_bytes()).hexdigest())
    (site / "new").rename(place)
    return place


def _with_manifest(entries: dict[str, bytes], **fields: object) -> None:
    tree = json.loads(entries["parcel.json"])
    for name, content in entries.items():
        if name != "parcel.json":
            tree["entries"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    tree["entries"] = {name: entry for name, entry in tree["entries"].items() if name in entries}
    entries["parcel.json"] = json.dumps(tree | fields).encode()


def _identified(entries: dict[str, bytes]) -> None:
    name = "study/000003.dcm"
    entries[name] = entries[name].replace(b"YES ", b"NO  ", 1)
    _with_manifest(entries)


def _escaping(entries: dict[str, bytes]) -> None:
    entries["study/../../../escaped.dcm"] = entries.pop("study/000003.dcm")
    _with_manifest(entries)


def _changed_image(entries: dict[str, bytes]) -> None:
    content = entries["study/000002.dcm"]
    entries["study/000002.dcm"] = content[:-1] + bytes([content[-1] ^ 1])


def _extra(entries: dict[str, bytes]) -> None:
    entries["run.sh"] = b"#!"


def _wrong_case(entries: dict[str, bytes]) -> None:
    _with_manifest(entries, case="other")


def _evil_case(entries: dict[str, bytes]) -> None:
    _with_manifest(entries, case="../../other")


def _bad_order(entries: dict[str, bytes]) -> None:
    entries["order.toml"] = ORDER.replace("anatomical-model", "unheard-of").encode()
    _with_manifest(entries)


def _no_dicom(entries: dict[str, bytes]) -> None:
    entries["study/000001.dcm"] = b"MZ" * 500
    _with_manifest(entries)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_identified, "not marked as de-identified"),
        (_escaping, "otherwise than study/000001.dcm"),
        (_changed_image, "another study/000002.dcm than its parcel.json says"),
        (_extra, "exactly the files that its parcel.json names"),
        (_wrong_case, "the order is for case case-0001, the parcel for case other"),
        (_evil_case, "parcel.json with 1 faults"),
        (_bad_order, "known devices"),
        (_no_dicom, "no DICOM file"),
        (lambda entries: entries.update({"parcel.json": b"{" * 10_000}), "faults"),
        (lambda entries: entries.pop("parcel.json"), "parcel.json of 0 bytes"),
    ],
)
def test_a_parcel_that_is_not_right_in_every_part_is_refused(
    tmp_path: Path, study: Path, keep: Keep, order: Path, change: Callable[[dict[str, bytes]], None], why: str
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    place = _rewritten(pack(study, keep, order=order).path, site, change)
    with pytest.raises(InputError, match=why):
        accept(site, place)
    assert not (site / "cases").exists() or list((site / "cases").iterdir()) == []
    assert [one.digest for one in Inbox(site).refusals()] == [place.stem]
    assert list(tmp_path.rglob("escaped*")) == []
    assert accept_all(site) == ()


def test_a_packed_cut_or_renamed_parcel_is_refused(tmp_path: Path, study: Path, keep: Keep, order: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    whole = pack(study, keep, order=order).path
    with pytest.raises(InputError, match="must be stored"):
        accept(site, _rewritten(whole, site, lambda entries: None, packed=True))
    for content, why in ((whole.read_bytes()[:-100], "no whole zip"), (b"", "no whole zip")):
        place = Inbox(site).place(hashlib.sha256(content).hexdigest())
        place.write_bytes(content)
        with pytest.raises(InputError, match=why):
            accept(site, place)
    renamed = Inbox(site).place("0" * 64)
    shutil.copy(whole, renamed)
    with pytest.raises(InputError, match="its name says 000000000000"):
        accept(site, renamed)
    huge = Inbox(site).place("1" * 64)
    with huge.open("wb") as stream:
        os.truncate(stream.fileno(), MAX_PARCEL_BYTES + 1)
    with pytest.raises(InputError, match="2000 MB, at most 2000 MB"):
        accept(site, huge)
    assert len(Inbox(site).refusals()) == 5

"""The layer file: known bytes, read back, and whatever is damaged is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from batchone.pipeline.errors import MachineError
from batchone.pipeline.job import contours
from batchone.pipeline.job.contours import cli_figures
from batchone.slicer.cli_format import read_cli, write_cli
from batchone.slicer.cli_header import LONG_UNIT_MM, SHORT_UNIT_MM, label_text, with_medical
from batchone.slicer.hatch import Hatches
from batchone.slicer.layers import Layers

# a square of 1 mm in two layers of 0.1 mm; the second has a clockwise triangular hole
SQUARE = np.array([[1.0, 1.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0]])
HOLE = np.array([[1.2, 1.2], [1.2, 1.6], [1.6, 1.2]])
HEADER = b'$$HEADERSTART\n$$BINARY\n$$UNITS/%s\n$$VERSION/200\n$$LABEL/1,"plug"\n$$DIMENSION/%s\n$$LAYERS/2\n$$HEADEREND'
SHORT_HEADER = HEADER % (b"0.005000", b"1.000000,1.000000,0.000000,2.000000,2.000000,0.200000")
SQUARE_WORDS = (129, 1, 1, 5, 200, 200, 400, 200, 400, 400, 200, 400, 200, 200)
HOLE_WORDS = (129, 1, 0, 4, 240, 240, 240, 320, 320, 240, 240, 240)
SHORT_BODY = struct.pack("<44H", 128, 20, *SQUARE_WORDS, 128, 40, *SQUARE_WORDS, *HOLE_WORDS)


def stack(*loops: tuple[int, np.ndarray, float], count: int = 2, layer_mm: float = 0.1, part: int = 0) -> Layers:
    points = np.concatenate([loop for _, loop, _ in loops])
    start = np.concatenate([[0], np.cumsum([len(loop) for _, loop, _ in loops])]).astype(np.int64)
    layer = np.array([number for number, _, _ in loops], dtype=np.int32)
    area = np.array([area for _, _, area in loops])
    return Layers(layer_mm, count, points, start, layer, np.full(len(loops), part, dtype=np.int32), area)


def plug(shift_mm: float = 0.0) -> Layers:
    return stack((0, SQUARE + shift_mm, 1.0), (1, SQUARE + shift_mm, 1.0), (1, HOLE + shift_mm, -0.08))


def test_a_small_file_has_exactly_the_bytes_of_the_specification() -> None:
    assert write_cli(plug(), ["plug"]) == SHORT_HEADER + SHORT_BODY


def test_geometry_outside_the_first_octant_is_written_in_the_long_form() -> None:
    data = write_cli(plug(shift_mm=-4.0), ["plug"])
    header = HEADER % (b"1.000000", b"-3.000000,-3.000000,0.000000,-2.000000,-2.000000,0.200000")
    assert data.startswith(header)
    body = data[len(header) :]
    square = (-3.0, -3.0, -2.0, -3.0, -2.0, -2.0, -3.0, -2.0, -3.0, -3.0)
    first = struct.pack("<Hf", 127, 0.1) + struct.pack("<H3i", 130, 1, 1, 5) + struct.pack("<10f", *square)
    assert body.startswith(first + struct.pack("<Hf", 127, 0.2))
    assert read_cli(data).header.unit_mm == LONG_UNIT_MM


@pytest.mark.parametrize(
    ("layer_mm", "far_mm", "short"),
    [
        (0.1, 327.675, True),  # the last step of 16 bits
        (0.1, 327.7, False),  # one step farther
        (0.03, 100.0, True),
        (0.0333, 100.0, False),  # not a whole number of 0.005 mm
    ],
)
def test_the_short_form_is_taken_just_where_it_can_hold_the_geometry(layer_mm: float, far_mm: float, short: bool) -> None:
    box = np.array([[1.0, 1.0], [far_mm, 1.0], [far_mm, 3.0], [1.0, 3.0]])
    data = write_cli(stack((0, box, 2.0 * (far_mm - 1.0)), count=1, layer_mm=layer_mm), ["bar"])
    assert read_cli(data).header.unit_mm == (SHORT_UNIT_MM if short else LONG_UNIT_MM)


@pytest.mark.parametrize("shift_mm", [0.0, -4.0])
def test_what_was_written_reads_back(shift_mm: float) -> None:
    wanted = plug(shift_mm)
    file = read_cli(write_cli(wanted, ["plug"]))
    assert file.labels == ("plug",)
    np.testing.assert_allclose(file.top_mm, [0.1, 0.2], atol=1e-6)  # float32
    np.testing.assert_allclose(file.layers.points_mm, wanted.points_mm, atol=1e-6)
    np.testing.assert_array_equal(file.layers.loop_start, wanted.loop_start)
    np.testing.assert_array_equal(file.layers.loop_layer, wanted.loop_layer)
    np.testing.assert_allclose(file.layers.loop_area_mm2, wanted.loop_area_mm2, atol=1e-5)  # float32
    np.testing.assert_allclose(file.layers.area_mm2(), [1.0, 0.92], atol=1e-5)


def test_parts_keep_their_number_and_label() -> None:
    layers = plug()
    layers = Layers(
        0.1, 2, layers.points_mm, layers.loop_start, layers.loop_layer, np.array([0, 0, 1], np.int32), layers.loop_area_mm2
    )
    file = read_cli(write_cli(layers, ["plug", "pin"]))
    assert file.labels == ("plug", "pin")
    np.testing.assert_array_equal(file.layers.loop_part, [0, 0, 1])
    assert len(file.layers.loops(1, 1)) == 1


def test_contours_thinner_than_the_unit_are_left_out_and_repeated_points_merged() -> None:
    sliver = np.array([[5.0, 5.0], [5.4, 5.0], [5.4, 5.001]])
    rough = np.array([[1.0, 1.0], [1.001, 1.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0], [1.0, 1.001]])
    file = read_cli(write_cli(stack((0, rough, 1.0), (0, sliver, 0.0002), count=1), ["p"]))
    np.testing.assert_allclose(file.layers.points_mm, SQUARE, atol=1e-9)


def test_a_label_can_carry_no_command_comment_or_quote() -> None:
    assert label_text('a"b//c\n$$LAYERS/9 é') == "a_b__c___LAYERS_9 _"
    assert read_cli(write_cli(plug(), ["x" * 200])).labels == ("x" * 80,)


def test_every_truncation_is_refused_or_lacks_a_whole_contour() -> None:
    data = SHORT_HEADER + SHORT_BODY
    accepted = []
    for cut in range(1, len(data)):
        try:
            read_cli(data[:-cut])
        except MachineError:
            continue
        accepted.append(cut)
    # the format has no end marker: a cut just before the hole (12 words) or the second square (14 more) leaves a valid file
    assert accepted == [24, 52]


def body(*words: int) -> bytes:
    return SHORT_HEADER + struct.pack(f"<{len(words)}H", *words)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "header"),
        (b"solid ascii\n", "header"),
        ((SHORT_HEADER + SHORT_BODY).replace(b"/200", b"/100"), "header"),
        ((SHORT_HEADER + SHORT_BODY).replace(b"$$BINARY", b"$$ASCII"), "GEOMETRYSTART"),
        ((SHORT_HEADER + SHORT_BODY).replace(b"0.005000", b"0.010000"), "unit"),
        ((SHORT_HEADER + SHORT_BODY).replace(b"LABEL/1", b"LABEL/2"), "numbered"),
        ((SHORT_HEADER + SHORT_BODY).replace(b"$$LAYERS/2", b"$$LAYERS/3"), "layers"),
        ((SHORT_HEADER + SHORT_BODY).replace(b"2.000000,2.000000,0.2", b"1.900000,2.000000,0.2"), "DIMENSION"),
        (SHORT_HEADER + b"\n" + SHORT_BODY, "command"),
        (SHORT_HEADER + SHORT_BODY + b"\0", "left over"),
        (SHORT_HEADER + SHORT_BODY + b"\0\0", "command 0"),
        (body(*SQUARE_WORDS, 128, 20, 128, 40), "needs a layer"),
        (body(128, 20, 128, 40), "no contour"),
        (body(128, 40, *SQUARE_WORDS, 128, 20, *SQUARE_WORDS), "ascend"),
        (body(128, 20, *SQUARE_WORDS, 128, 20, *SQUARE_WORDS), "ascend"),
        (body(128, 20, 129, 2, *SQUARE_WORDS[2:], 128, 40, *SQUARE_WORDS), "part 2"),
        (body(128, 20, 129, 1, 2, *SQUARE_WORDS[3:], 128, 40, *SQUARE_WORDS), "direction 2"),
        (body(128, 20, 129, 1, 0, *SQUARE_WORDS[3:], 128, 40, *SQUARE_WORDS), "against its direction"),
        (body(128, 20, *SQUARE_WORDS[:-1], 201, 128, 40, *SQUARE_WORDS), "where they start"),
        (body(128, 20, 129, 1, 1, 65535, 200, 200, 128, 40), "announces 65535 points"),
        (body(128, 20, 129, 1, 1, 3, 200, 200, 400, 200, 200, 200, 128, 40), "3 points"),
        (body(128, 20, 133, 1, 1, 200, 200, 400, 400, 128, 40), "command 133"),
    ],
)
def test_a_hostile_file_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(MachineError, match=reason):
        read_cli(data)


def test_a_coordinate_that_is_no_number_is_refused() -> None:
    data = bytearray(write_cli(plug(shift_mm=-4.0), ["plug"]))
    at = bytes(data).index(b"HEADEREND") + 9 + 6 + 14
    data[at : at + 4] = struct.pack("<f", float("nan"))
    with pytest.raises(MachineError, match="finite"):
        read_cli(bytes(data))


def test_random_bytes_are_refused_and_never_crash() -> None:
    rng = np.random.default_rng(7)
    data = np.frombuffer(SHORT_HEADER + SHORT_BODY, dtype=np.uint8)
    refused = 0
    for _ in range(500):
        bent = data.copy()
        bent[rng.integers(0, len(data), 3)] = rng.integers(0, 256, 3)
        try:
            file = read_cli(bent.tobytes())
        except MachineError:
            refused += 1
        else:  # what is accepted is still a valid stack
            assert file.layers.count == 2
            assert file.layers.area_mm2().min() > -1e9
    assert refused > 350


TEXT = (
    b'$$HEADERSTART\n$$ASCII\n$$UNITS/1.000000\n$$VERSION/200\n$$LABEL/1,"plug"\n'
    b"$$DIMENSION/1.000000,1.000000,0.000000,2.000000,2.000000,0.200000\n$$LAYERS/2\n$$HEADEREND\n$$GEOMETRYSTART\n"
    b"$$LAYER/0.100000\n$$POLYLINE/1,1,5,1.000000,1.000000,2.000000,1.000000,2.000000,2.000000,1.000000,2.000000,1.000000,1.000000\n"
    b"$$HATCHES/1,1,1.100000,1.500000,1.900000,1.500000\n"
    b"$$LAYER/0.200000\n$$POLYLINE/1,1,5,1.000000,1.000000,2.000000,1.000000,2.000000,2.000000,1.000000,2.000000,1.000000,1.000000\n"
    b"$$POLYLINE/1,0,4,1.200000,1.200000,1.200000,1.600000,1.600000,1.200000,1.200000,1.200000\n$$GEOMETRYEND\n"
)


def text_layers(data: bytes) -> list[tuple[float, list[tuple[int, int, np.ndarray]], list[np.ndarray]]]:
    """A reader from the specification alone: tops, polylines (id, dir, points), hatches."""
    geometry = data.decode("ascii").split("$$GEOMETRYSTART")[1].split("$$GEOMETRYEND")[0]
    found: list[tuple[float, list[tuple[int, int, np.ndarray]], list[np.ndarray]]] = []
    for command in geometry.split("$$")[1:]:
        keyword, numbers = command.strip().split("/")
        values = np.array(numbers.split(","), dtype=np.float64)
        if keyword == "LAYER":
            found.append((float(values[0]), [], []))
        elif keyword == "POLYLINE":
            assert len(values) == 3 + 2 * int(values[2])
            found[-1][1].append((int(values[0]), int(values[1]), values[3:].reshape(-1, 2)))
        else:
            assert (keyword, len(values)) == ("HATCHES", 2 + 4 * int(values[1]))
            found[-1][2].append(values[2:].reshape(-1, 4))
    return found


def hatched_plug() -> bytes:
    group = np.zeros(1, np.int32)
    lines = Hatches(np.array([[1.1, 1.5, 1.9, 1.5]]), np.array([0, 1]), group, group)
    return write_cli(plug(), ["plug"], lines)


def test_the_text_form_has_exactly_the_words_of_the_specification_and_reads_back() -> None:
    binary = read_cli(hatched_plug())
    assert binary.to_text() == TEXT
    text = read_cli(TEXT)
    assert not text.header.binary
    np.testing.assert_allclose(text.layers.points_mm, binary.layers.points_mm, atol=1e-6)
    np.testing.assert_array_equal(text.layers.loop_start, binary.layers.loop_start)
    np.testing.assert_allclose(text.hatches.vectors_mm, binary.hatches.vectors_mm, atol=1e-6)
    (first, outer, lines), (second, both, none) = text_layers(TEXT)
    assert (first, second, none) == (0.1, 0.2, [])
    np.testing.assert_array_equal(outer[0][2], np.vstack([SQUARE, SQUARE[:1]]))
    assert [(number, direction) for number, direction, _ in both] == [(1, 1), (1, 0)]
    np.testing.assert_array_equal(lines[0], [[1.1, 1.5, 1.9, 1.5]])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"$$GEOMETRYEND\n", b""),
        (b"$$LAYER/0.200000", b"$$LAYER/0.050000"),
        (b"$$HATCHES/1,1,1.1", b"$$HATCHES/1,2,1.1"),
        (b"$$HATCHES/1,1,1.1", b"$$HATCHES/2,1,1.1"),
        (b"1.900000,1.500000\n$$LAYER", b"nan,1.500000\n$$LAYER"),
        (b"$$POLYLINE/1,0,4", b"$$POLYLINE/1,1,4"),
        (b"1.600000,1.200000,1.200000,1.200000\n", b"1.600000,1.200000,1.200000,1.300000\n"),
        (b"$$UNITS/1.000000", b"$$UNITS/0.005000"),
        (b"$$LAYER/0.100000", b"$$DATE/010101\n$$LAYER/0.100000"),
    ],
)
def test_a_changed_text_is_refused(old: bytes, new: bytes) -> None:
    assert old in TEXT
    with pytest.raises(MachineError, match="CLI"):
        read_cli(TEXT.replace(old, new, 1))


def test_medical_user_data_stand_in_the_header_by_the_rules_of_the_specification() -> None:
    said = {"patient-id": "demo-0001", "source-id": "plug", "front-vector": "(0.000000,-1.000000,0.000000)", "study-id": 'a"$$b'}
    data = with_medical(hatched_plug(), [said, {"source-id": "other"}])
    uid, length, rest = data.split(b"$$USERDATA/", 1)[1].split(b",", 2)
    assert uid == b'"batchone-medical"'
    block = rest[: int(length)]
    assert rest[int(length) : int(length) + 2] == b"$$"  # the length leads to the byte before the next command
    items = [b"source-id=plug", b"patient-id=demo-0001", b"study-id=a___b", b"front-vector=(0.000000,-1.000000,0.000000)"]
    assert block == b"".join(item + b"\0" for item in items) + b"\n"
    file = read_cli(data)
    assert [one["source-id"] for one in file.header.medical] == ["plug", "other"]
    assert with_medical(data, []) == hatched_plug()  # nothing else has changed
    assert read_cli(file.to_text()).header.medical == file.header.medical
    assert cli_figures(data) == cli_figures(hatched_plug())
    for damage in (data.replace(b"patient-id=", b"patient-no="), data.replace(length, b"9", 1), data.replace(b"\0", b"", 1)):
        with pytest.raises(MachineError):
            read_cli(damage)
    with pytest.raises(ValueError, match="patient-name"):
        with_medical(data, [{"patient-name": "x"}])


@pytest.mark.parametrize("short", [True, False])
def test_the_verifiers_figures_are_those_of_plain_sums_over_the_commands(short: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short and long words, contours of one point, lines alone under a label, and blocks that end between commands."""
    monkeypatch.setattr(contours, "_BLOCK", 40)
    random, kind, words = np.random.default_rng(7), "<u2" if short else "<f4", b""
    wanted: dict[int, list[float]] = {
        label: [0.0] * 6 for label in (1, 2, 3)
    }  # area x step, around, contours, lines, length, low x
    for layer in range(5):
        words += struct.pack("<HH" if short else "<Hf", 128 if short else 127, 20 * (layer + 1))
        for label in (1, 2, 3, 1):
            ring = random.integers(0, 4000, (int(random.integers(1, 9)), 2)).astype(kind)
            lines = random.integers(0, 4000, (int(random.integers(1, 5)), 4)).astype(kind)
            one = wanted[label]
            if label < 3:
                words += struct.pack("<4H" if short else "<H3i", 129 if short else 130, label, 1, len(ring)) + ring.tobytes()
                x, y = ring.astype(np.float64).T
                one[0] += 20.0 * sum(x[k] * y[k + 1] - x[k + 1] * y[k] for k in range(len(x) - 1)) / 2.0
                one[0] += 20.0 * (x[-1] * y[0] - x[0] * y[-1]) / 2.0
                one[1] += sum(np.hypot(x[k + 1] - x[k], y[k + 1] - y[k]) for k in range(len(x) - 1))
                one[2] += 1
            words += struct.pack("<3H" if short else "<H2i", 131 if short else 132, label, len(lines)) + lines.tobytes()
            one[3] += len(lines)
            one[4] += sum(np.hypot(*(line[2:] - line[:2])) for line in lines.astype(np.float64))
            lowest = min([float(lines[:, ::2].min()), *([float(ring[:, 0].min())] if label < 3 else [])])
            one[5] = lowest if layer == 0 and one[3] == len(lines) else min(one[5], lowest)
    labels = b"".join(b'$$LABEL/%d,"body-%d"\n' % (label, label) for label in wanted)
    head = b"$$HEADERSTART\n$$BINARY\n$$UNITS/00000.005000\n%b$$LAYERS/000005\n$$HEADEREND" % labels
    figures = cli_figures(head + words)
    assert [name for name, _ in figures.labels] == ["body-1", "body-2", "body-3"]
    for (_, found), one in zip(figures.labels, wanted.values(), strict=True):
        assert found.volume_mm3 == pytest.approx(one[0] * 0.005**3, abs=2e-6)
        assert found.contours_mm == pytest.approx(one[1] * 0.005, abs=2e-3)
        assert (found.contours, found.hatches) == (one[2], one[3])
        assert found.hatches_mm == pytest.approx(one[4] * 0.005, abs=2e-3)
        assert found.box_low_mm[0] == pytest.approx(one[5] * 0.005, abs=1e-6)
    assert (figures.labels[2][1].first_layer, figures.labels[2][1].last_layer) == (-1, -1)
    assert figures.hatches == sum(one[3] for one in wanted.values())

"""What an enhanced (multi-frame) object says of each of its frames, brought into the tags of single-frame images.

PS3.3 C.7.6.16: an attribute of a frame stands in a sequence of a macro, and that in the group shared by all frames or in the
group of the one frame. Legacy converted objects keep what has no macro in "unassigned" sequences.
"""

from __future__ import annotations

from typing import Final

from batchone.pipeline.intake.elements import MAX_VALUE_BYTES, Unreadable, Walk

MAX_FRAMES = 6_000  # frames of one object; project default, three times the longest clinical series
SHARED, PER_FRAME = 0x52009229, 0x52009230

FrameValues = dict[int, bytes]

_ACQUISITION_NUMBER, _TEMPORAL_POSITION = 0x00200012, 0x00200100
_BINARY: Final = {0x00209156: _ACQUISITION_NUMBER, 0x00209128: _TEMPORAL_POSITION}  # US, UL here; texts in single-frame images
_RENAMED: Final = {0x00089007: 0x00080008, 0x00189074: 0x0008002A}  # FrameType, FrameAcquisitionDateTime
_MACROS: Final = {  # sequence of the macro: attributes taken from it
    0x00189329: (0x00089007,),  # CT image frame type
    0x00209111: (0x00189074, 0x00209128, 0x00209156),  # frame content
    0x00209113: (0x00200032,),  # plane position
    0x00209116: (0x00200037,),  # plane orientation
    0x00289110: (0x00180050, 0x00280030),  # pixel measures
    0x00289145: (0x00281052, 0x00281053, 0x00281054),  # pixel value transformation
    0x00189314: (0x00181210,),  # CT reconstruction
    0x00189325: (0x00180060,),  # CT X-ray details
}
_UNASSIGNED = frozenset({0x00209170, 0x00209171})
_FROM_UNASSIGNED = (0x00080008, 0x0008002A, 0x00080032, 0x00080033, 0x00180060, 0x00181120, 0x00181210, 0x00200012, 0x00200100)


def read_frames(walk: Walk, places: dict[int, tuple[int, int]]) -> tuple[FrameValues, ...]:
    """The values of every frame, in the order of the frames; empty when the object describes none.

    Parameters
    ----------
    walk
        Over the bytes of the data set.
    places
        Where the content of the shared and of the per-frame groups begins and ends; (0, 0) when absent.

    Raises
    ------
    Unreadable
        The groups are broken, or describe more frames than allowed.
    """
    shared: FrameValues = {}
    for begin, end in walk.items(*places[SHARED]):
        shared |= _group(walk, begin, end)
    frames: list[FrameValues] = []
    for begin, end in walk.items(*places[PER_FRAME]):
        if len(frames) == MAX_FRAMES:
            raise Unreadable(f"an object describes more than {MAX_FRAMES} frames, at most {MAX_FRAMES} frames")
        frames.append(shared | _group(walk, begin, end))
    return tuple(frames)


def _group(walk: Walk, begin: int, end: int) -> FrameValues:
    """The values of one functional group; a macro goes before what is unassigned."""
    assigned: FrameValues = {}
    unassigned: FrameValues = {}
    for tag, start, stop in walk.members(begin, end):
        if tag in _MACROS:
            _collect(walk, start, stop, _MACROS[tag], assigned)
        elif tag in _UNASSIGNED:
            _collect(walk, start, stop, _FROM_UNASSIGNED, unassigned)
    return unassigned | assigned


def _collect(walk: Walk, start: int, stop: int, wanted: tuple[int, ...], values: FrameValues) -> None:
    """Put the wanted attributes of the first item of a sequence into ``values``, under their single-frame tags."""
    for begin, end in walk.items(start, stop):
        for tag, at, after in walk.members(begin, end):
            if tag in wanted:
                raw = walk.data[at : min(after, at + MAX_VALUE_BYTES)]
                if tag in _BINARY:
                    raw = str(int.from_bytes(raw, "big" if walk.big_endian else "little")).encode()
                values[_BINARY.get(tag) or _RENAMED.get(tag, tag)] = raw
        return

"""A multipart answer, part by part as it streams in; nothing of it is held but the piece at hand (RFC 2046, 5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from batchone.pipeline.errors import MachineError

MAX_HEADER_BYTES = 16_384  # the header fields of one part; project default
_BOUNDARY = re.compile(r"""boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))""", re.IGNORECASE)


def parts(content_type: str, pieces: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """The bodies of the parts, each as pieces of bytes; a body must be read before the next is asked for.

    Raises
    ------
    MachineError
        The answer is not multipart, or it ends in the middle.
    """
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().lstrip().startswith("multipart/") or found is None:
        raise MachineError("the DICOMweb server's answer is not multipart", hint="does --from name its DICOMweb services?")
    boundary = b"\r\n--" + (found[1] or found[2]).encode("ascii", "replace")
    stream = _Stream(pieces, first=b"\r\n")
    for _ in stream.until(boundary):
        pass
    while not stream.ends():
        stream.skip_header()
        body = stream.until(boundary)
        yield body
        for _ in body:  # what the reader left
            pass


class _Stream:
    """Bytes with a little look-ahead."""

    def __init__(self, pieces: Iterator[bytes], *, first: bytes) -> None:
        self._pieces = pieces
        self._ahead = bytearray(first)

    def until(self, mark: bytes) -> Iterator[bytes]:
        """What comes before ``mark``, which is read past."""
        while (at := self._ahead.find(mark)) < 0:
            sure = len(self._ahead) - len(mark) + 1
            if sure > 0:
                yield bytes(self._ahead[:sure])
                del self._ahead[:sure]
            self._more()
        if at:
            yield bytes(self._ahead[:at])
        del self._ahead[: at + len(mark)]

    def ends(self) -> bool:
        """Whether the boundary just read was the last one."""
        while len(self._ahead) < 2:
            self._more()
        return self._ahead.startswith(b"--")

    def skip_header(self) -> None:
        """Read past the rest of the boundary's line and the header fields of a part."""
        while (at := self._ahead.find(b"\r\n\r\n")) < 0:
            if len(self._ahead) > MAX_HEADER_BYTES:
                raise MachineError(
                    f"the header of a part has more than {MAX_HEADER_BYTES} bytes, at most {MAX_HEADER_BYTES}",
                    hint="see the DICOMweb server's log",
                )
            self._more()
        del self._ahead[: at + 4]

    def _more(self) -> None:
        piece = next(self._pieces, None)
        if piece is None:
            raise MachineError("the DICOMweb server's answer ends in the middle", hint="run again: what came is kept")
        self._ahead += piece

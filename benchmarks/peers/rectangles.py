"""Rectangles into bins by rectpack, by its documented way: packer, rectangles, bins, pack.

Usage: python rectangles.py rectpack FILE.json   with {"sides": [[w, h], ...], "bin": [w, h], "bins": n}, whole numbers
Prints one JSON line: name, variant, seconds, placed ([bin, index of the rectangle] each), versions.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import rectpack

if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[2]).read_text())
    packer = rectpack.newPacker(rotation=True)
    for index, side in enumerate(asked["sides"]):
        packer.add_rect(*side, rid=index)
    packer.add_bin(*asked["bin"], count=asked["bins"])
    started = time.perf_counter()
    packer.pack()
    seconds = time.perf_counter() - started
    placed = [[rect[0], rect[5]] for rect in packer.rect_list()]
    result = {"name": "rectangles", "variant": sys.argv[1], "seconds": seconds, "placed": placed}
    print(json.dumps({**result, "versions": {"rectpack": version("rectpack")}}))

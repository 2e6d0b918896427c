"""What the page of a case fetches: its scene, its scan, its surfaces, its sections and the pictures of its findings."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.routing import APIRoute

from batchone.pipeline.errors import InputError
from batchone.pipeline.serve.cases import CASE_ID
from batchone.pipeline.serve.known import is_known
from batchone.pipeline.serve.refusal import Refusal, unknown
from batchone.pipeline.serve.scene.kept import Kept
from batchone.pipeline.store import CaseFolder

CaseId = Annotated[str, Path(pattern=CASE_ID)]
Name = Annotated[str, Path(max_length=200, description="As the scene names it.")]
Known = Annotated[str | None, Header(alias="if-none-match", max_length=1024)]
Full = Annotated[bool, Query(description="All of it, not reduced for the screen.")]
Across = Annotated[bool, Query(description="The section across the first one.")]
Of = Annotated[
    str, Query(pattern="^([0-9a-f]{64})?$", description="Digest of what the page shows; another one has no such picture.")
]

Folder = Callable[[Request, str], CaseFolder]
Judges = Callable[[Request], bool]
ROUTES = ("scene", "volume", "surface/{name}", "section/{name}", "picture/{name}")  # below /review/{case}, all GET

_SHAPES = ("volume", "surface", "section")  # what no finding changes


def scene_router(folder: Folder, judges: Judges, *, route_class: type[APIRoute] = APIRoute) -> APIRouter:
    """The routes below ``/review/{case}``.

    Parameters
    ----------
    folder
        Gives the folder of a case to somebody who may see it; refuses everybody else, and what is no case.
    judges
        Whether somebody judges devices, and so sees the findings.
    route_class
        Asks for rights before a route runs.
    """
    kept = Kept()
    router = APIRouter(route_class=route_class)  # what draws is loaded when somebody looks: until then the server stays small

    @router.get("/review/{case}/scene", response_class=Response)
    def scene(case: CaseId, request: Request, known: Known = None) -> Response:
        """Names, places and looks of everything that the viewer shows."""
        from batchone.pipeline.serve.scene.describe import scene_description

        opened, findings = folder(request, case), judges(request)

        def made() -> bytes:
            return json.dumps(scene_description(opened, findings=findings)).encode()

        return _answer(opened, known, kept, "scene", "application/json", made, f"findings{findings:d}")

    @router.get("/review/{case}/volume", response_class=Response)
    def volume(case: CaseId, request: Request, full: Full = False, known: Known = None) -> Response:
        """The scan as a gzipped NIfTI, RAS: about the device and reduced for the screen, or all of it."""
        from batchone.pipeline.serve.scene.volume import volume_bytes

        opened = folder(request, case)
        return _answer(opened, known, kept, "volume", "application/gzip", lambda: volume_bytes(opened, full), f"full{full:d}")

    @router.get("/review/{case}/surface/{name}", response_class=Response)
    def surface(case: CaseId, name: Name, request: Request, full: Full = False, known: Known = None) -> Response:
        """A surface as MZ3, RAS: reduced for the screen, or all of it."""
        from batchone.pipeline.serve.scene.surfaces import surface_bytes

        opened = folder(request, case)
        media = "application/octet-stream"
        return _answer(opened, known, kept, f"surface {name}", media, lambda: surface_bytes(opened, name, full), f"full{full:d}")

    @router.get("/review/{case}/section/{name}", response_class=Response)
    def section(case: CaseId, name: Name, request: Request, across: Across = False, of: Of = "", known: Known = None) -> Response:
        """A picture of the section that holds a sleeve's or slot's way, or of the one across it."""
        from batchone.pipeline.serve.scene.describe import shapes_digest
        from batchone.pipeline.serve.scene.sections import section_bytes

        opened = folder(request, case)
        _same(of, shapes_digest(opened))
        return _answer(
            opened, known, kept, f"section {name}", "image/png", lambda: section_bytes(opened, name, across), f"across{across:d}"
        )

    @router.get("/review/{case}/picture/{name}", response_class=Response)
    def picture(case: CaseId, name: Name, request: Request, of: Of = "", known: Known = None) -> Response:
        """A picture of a finding's place, or of the wrong poses of a guide."""
        from batchone.pipeline.serve.scene.describe import device_digest
        from batchone.pipeline.serve.scene.pictures import picture_bytes

        opened = folder(request, case)
        _same(of, device_digest(opened))
        return _answer(opened, known, kept, f"picture {name}", "image/png", lambda: picture_bytes(opened, name))

    return router


def _same(asked: str, there: str) -> None:
    """Refuse (404) a picture of another device than is there; whoever names none gets that of the one that is."""
    if asked and asked != there:
        raise unknown("picture of that device")


def _answer(
    case: CaseFolder, known: str | None, kept: Kept, part: str, media: str, made: Callable[[], bytes], variant: str = ""
) -> Response:
    """What is asked for, if the browser does not have it; ``part`` and ``variant`` say what it is."""
    from batchone.pipeline.serve.scene.describe import scene_digest, shapes_digest

    digest_of = shapes_digest if part.split()[0] in _SHAPES else scene_digest
    digest = digest_of(case)
    tag = f'"{digest[:32]}{variant}"'
    headers = {"ETag": tag}
    if is_known(known, tag):
        return Response(status_code=304, headers=headers)
    key = (str(case.path), digest, part, variant)
    try:
        data = kept.get(key)
        if data is None:
            data = made()
            if digest_of(case) == digest:  # a stage that was made anew meanwhile must not stand for the old one
                kept.put(key, data)
        return Response(data, media_type=media, headers=headers)
    except InputError as error:
        raise Refusal(404, str(error), hint=error.hint) from error
    except (FileNotFoundError, NotADirectoryError):  # the stage is being made again just now
        raise unknown("scene") from None

"""What a hospital does on its case's page: a comment on the proposed device, and a label to print."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request, Response

from batchone.pipeline.case_comments import require_words
from batchone.pipeline.case_order import ORDER, read_case_order
from batchone.pipeline.errors import BatchoneError, InputError
from batchone.pipeline.serve.child import in_child
from batchone.pipeline.serve.guard import GuardedRoute, Parts, Who
from batchone.pipeline.serve.pages.shell import onward, shown
from batchone.pipeline.serve.refusal import Refusal
from batchone.pipeline.serve.routes.case_routes import CaseId

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)


@router.post("/review/{case}/comment")
async def comment(
    case: CaseId,
    request: Request,
    who: Who,
    parts: Parts,
    device: Annotated[str, Form(max_length=64)] = "",
    text: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Say something of the device that was seen; it is an event of the case and changes nothing."""
    parts.cases.shown(case, who)
    try:
        said = require_words(" ".join(text.split()))
    except InputError as error:
        raise Refusal(422, str(error), hint=error.hint) from error
    try:
        await in_child("comment", parts.site, case=case, who=who.name, device=device, text=said)
    except InputError as error:
        raise Refusal(409, str(error), hint=error.hint) from error
    except BatchoneError as error:
        raise Refusal(503, str(error), hint=error.hint, headers={"Retry-After": "5"}) from error
    return onward(request, f"/review/{case}")


@router.get("/review/{case}/label")
def label(case: CaseId, who: Who, parts: Parts, size: Annotated[Literal["a6", "roll"], Query()] = "a6") -> Response:
    """A label of the case for paper: A6, or a roll of 62 mm."""
    view = parts.cases.shown(case, who)
    place = parts.cases.folder(case) / ORDER
    if not place.is_file():
        raise Refusal(409, "the case has no order yet", hint="print the label when there is one")
    return shown("label.html", who, case=case, order=read_case_order(place), view=view, size=size)

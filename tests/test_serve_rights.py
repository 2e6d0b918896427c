"""Who may do what at the server: every route with every role, other hospitals' cases, paths that lead elsewhere, any input."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
import site_server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchone.pipeline.serve.app import make_app
from batchone.pipeline.serve.guard import GuardedRoute
from batchone.pipeline.serve.page import page
from batchone.pipeline.serve.pages import (
    account_page,
    board_page,
    case_page,
    hospital_page,
    machine_page,
    order_page,
    plan_page,
    report_page,
    shell,
    sign_in_page,
)
from batchone.pipeline.serve.pages.scene_routes import scene_router
from batchone.pipeline.serve.rights import ANYONE, API, RIGHTS, ROLES
from batchone.pipeline.serve.routes import case_routes, operations, people, print_routes, sign_in, uploads
from batchone.pipeline.serve.routes.operations import openapi_document

DIGEST = "ab" * 32
PAGES = (
    "/",
    "/board",
    "/static",
    "/sign-in",
    "/sign-out",
    "/password",
    "/accounts",
    "/machines",
    "/review",
    "/orders",
)  # for people: not in the interface's document
TOLD = {(method, path) for method, path in RIGHTS if path != "/" and f"/{path.split('/')[1]}" not in PAGES}
BODIES: dict[tuple[str, str], Any] = {
    ("POST", f"{API}/sign-in"): {"name": "nobody", "password": "wrong"},
    ("POST", f"{API}/me/password"): {"old": "wrong", "new": "another long password"},
    ("POST", f"{API}/tokens"): {"role": "cell"},
    ("POST", f"{API}/accounts"): {"name": "cell", "roles": ["cell"]},
    ("PATCH", f"{API}/accounts/{{name}}"): {"disabled": False},
    ("POST", f"{API}/uploads"): {"digest": DIGEST, "bytes": 1000},
    ("POST", f"{API}/cases/{{case}}/review"): {"answer": "approve", "device": "0" * 64, "password": "wrong"},
    ("POST", f"{API}/cases/{{case}}/workshop"): {"step": "print-started", "job": "0" * 16},
    ("POST", f"{API}/cases/{{case}}/remake"): {"reason": "warped"},
    ("POST", f"{API}/prints/{{name}}/claim"): {"token": "0" * 8},
    ("POST", f"{API}/prints/{{name}}/renew"): {"token": "0" * 8, "attempt": 7},
    ("POST", f"{API}/prints/{{name}}/settle"): {"token": "0" * 8, "attempt": 7, "state": "printed"},
    ("POST", f"{API}/prints/{{name}}/move"): {"attempt": 7, "state": "released"},
    ("POST", f"{API}/prints/{{name}}/free"): {"reason": "looked at it"},
    ("POST", f"{API}/cases/{{case}}/cancel"): {"reason": "not needed", "password": "wrong"},
    ("POST", f"{API}/cases/{{case}}/revise"): {"reason": "too thick", "password": "wrong"},
}
ELSEWHERE = [
    "..",
    ".",
    "../../keys/release",
    "/etc/passwd",
    "..\\..\\keys",
    "%2e%2e",
    "case\x00",
    "keys/../..",
    "~",
    "c" * 65,
    "C:",
    "",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with site_server.serving(tmp_path_factory.mktemp("rights") / "site") as found:
        site_server.make_case(found.site, "own", released=True)
        site_server.make_case(found.site, "unreleased")
        site_server.make_case(found.site, "other", hospital="H-2", released=True)
        (found.site / "keys").mkdir()
        (found.site / "keys" / "release").write_text("SECRET OF THE SITE")
        yield found


def test_every_route_has_a_row_in_the_table_and_every_row_a_route(server: Any) -> None:
    modules = (
        sign_in,
        people,
        uploads,
        case_routes,
        print_routes,
        operations,
        shell,
        sign_in_page,
        account_page,
        board_page,
        case_page,
    )
    modules += (order_page, report_page, plan_page, hospital_page, machine_page)
    routes = [route for module in modules for route in module.router.routes]
    routes += scene_router(lambda *_: None, lambda _: True, route_class=GuardedRoute).routes
    assert all(isinstance(route, GuardedRoute) for route in routes)
    found = [(method, route.path) for route in routes for method in route.methods]
    assert sorted(found) == sorted(RIGHTS)
    paths = openapi_document(make_app(server.services))["paths"]
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == TOLD
    with pytest.raises(KeyError):
        GuardedRoute("/unheard-of", lambda: None, methods=["GET"])


@pytest.mark.parametrize("row", sorted(RIGHTS), ids=" ".join)
def test_every_route_is_allowed_or_refused_to_every_role_as_the_table_says(server: Any, row: tuple[str, str]) -> None:
    method, template = row
    path = template.format(
        case="own",
        digest=DIGEST,
        token="0" * 16,
        name=site_server.JOB if "/prints/" in template else "cell",
        machine="m-1",
        moment="powder",
        job=site_server.JOB,
        record=f"{site_server.JOB}-1",
    )
    path += "?a=1&b=1" if path.endswith("/compare") else ""
    for role in ("anyone", *ROLES):
        headers = {"Upload-Offset": "0"} if "uploads/" in path else {}
        options: dict[str, Any] = {"headers": headers, "json": BODIES.get(row)} if row in BODIES else {"headers": headers}
        if path.endswith("/stream"):
            with server.client.stream(method, server.url + path, headers=server.headers(role) | headers) as answer:
                status, told = answer.status_code, "" if answer.status_code == 200 else answer.read().decode()
        else:
            answer = server.ask(method, path, role, **options)
            status, told = answer.status_code, answer.text
        if RIGHTS[row] == ANYONE:
            assert "not signed in" not in told, role
            assert status != 403, role
        elif role == "anyone":
            assert (status, "not signed in" in told) == (401, True)
        elif role in RIGHTS[row]:
            assert status != 401, (role, told)
            assert "this is for" not in told, (role, told)
        else:
            assert (status, "this is for" in told) == (403, True), (role, told)


def test_another_hospitals_case_is_as_unknown_as_one_that_is_not_there(server: Any) -> None:
    for path in ("", "/events", "/events/stream", "/job"):
        for case in ("other", "not-there"):
            answer = server.ask("GET", f"{API}/cases/{case}{path}", "hospital")
            assert (answer.status_code, answer.json()["error"]["message"]) == (404, "there is no such case")
        assert path.endswith("stream") or server.ask("GET", f"{API}/cases/own{path}", "hospital").status_code == 200
    listed = server.ask("GET", f"{API}/cases", "hospital").json()["cases"]
    assert [one["case"] for one in listed] == ["own", "unreleased"]
    assert [one["case"] for one in server.ask("GET", f"{API}/cases", "cell").json()["cases"]] == ["other", "own"]
    assert server.ask("GET", f"{API}/cases/unreleased", "cell").status_code == 404
    assert len(server.ask("GET", f"{API}/cases", "engineer").json()["cases"]) == 3
    announced = server.ask("POST", f"{API}/uploads", "hospital", json={"digest": "cd" * 32, "bytes": 10})
    assert announced.json()["state"] == "open"
    for method in ("GET", "PATCH", "DELETE"):
        headers = {"Upload-Offset": "0"}
        answer = server.ask(method, f"{API}/uploads/{'cd' * 32}", "hospital", "H-2", headers=headers, content=b"x" * 10)
        assert answer.status_code == 404
    assert server.ask("POST", f"{API}/uploads", "hospital", "H-2", json={"digest": "cd" * 32, "bytes": 10}).status_code == 409
    assert server.ask("DELETE", f"{API}/uploads/{'cd' * 32}", "hospital").status_code == 204


def _leads_nowhere(server: Any, word: str) -> None:
    before = sorted(path for path in server.site.parent.rglob("*") if "server.sqlite" not in path.name)
    for word_as_sent in {quote(word, safe=""), quote(word, safe="/")}:
        for template, role, method in (
            (f"{API}/cases/{{}}", "engineer", "GET"),
            (f"{API}/cases/{{}}/events", "engineer", "GET"),
            (f"{API}/cases/{{}}/job", "cell", "GET"),
            (f"{API}/uploads/{{}}", "hospital", "PATCH"),
            (f"{API}/uploads/{{}}", "hospital", "DELETE"),
            (f"{API}/tokens/{{}}", "cell", "DELETE"),
            (f"{API}/prints/{{}}", "cell", "GET"),
            (f"{API}/prints/{{}}/files", "cell", "GET"),
            (f"{API}/prints/{{}}/claim", "cell", "POST"),
            (f"{API}/records/{{}}", "cell", "PUT"),
            ("/review/{}", "engineer", "GET"),
            ("/review/{}/compare?a=1&b=1", "engineer", "GET"),
            ("/machines/{}/picture/powder", "engineer", "GET"),
            ("/static/{}", "anyone", "GET"),
        ):
            raw = template.format(word_as_sent).encode()
            if posixpath.normpath(raw) == b"/":
                continue  # the client itself makes the board's address of it
            url = httpx.URL(server.url).copy_with(raw_path=raw)
            headers = server.headers(role) | {"Upload-Offset": "0"}
            answer = server.client.request(method, url, headers=headers, content=b"x" if method == "PATCH" else None)
            assert answer.status_code in (200, 404, 405, 422), (raw, answer.text)
            assert answer.status_code != 200 or not word.strip("/."), raw  # an empty word is another route
            assert "SECRET" not in answer.text
    for path, role, body in (
        (f"{API}/uploads", "hospital", {"digest": word, "bytes": 10}),
        (f"{API}/accounts", "admin", {"name": word, "roles": ["hospital"], "hospital": "H-1"}),
        (f"{API}/accounts", "admin", {"name": "somebody", "roles": ["hospital"], "hospital": word}),
        (f"{API}/cases/own/review", "approver", {"answer": "approve", "device": word, "password": "x"}),
    ):
        assert server.ask("POST", path, role, json=body).status_code in (404, 422), (path, word)
    assert sorted(path for path in server.site.parent.rglob("*") if "server.sqlite" not in path.name) == before


@pytest.mark.parametrize("word", ELSEWHERE)
def test_no_field_leads_out_of_its_folder(server: Any, word: str) -> None:
    _leads_nowhere(server, word)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    word=st.text(st.sampled_from("./\\%:~\x00\n aA0"), min_size=1, max_size=12).filter(
        lambda word: not re.fullmatch(r"[aA0][aA0.]*", word)
    )
)
def test_no_drawn_word_leads_out_of_its_folder(server: Any, word: str) -> None:
    _leads_nowhere(server, word)


def _try(operation: Any, url: str, headers: dict[str, str]) -> None:
    @settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=operation.as_strategy())
    def call(case: Any) -> None:
        answer = case.call(base_url=url, headers=headers, timeout=60)
        assert answer.status_code < 500, (case, answer.text)
        assert answer.status_code < 400 or set(answer.json()["error"]) == {"message", "hint"}, answer.text

    call()


def test_nothing_that_fits_the_interface_ends_in_a_fault_of_the_server(server: Any) -> None:
    schema = schemathesis.openapi.from_dict(openapi_document(make_app(server.services)))
    operations_found = [found.ok() for found in schema.get_all_operations()]
    assert len(operations_found) == len(TOLD)
    for operation in operations_found:
        if not operation.path.endswith("/stream"):  # whose answer does not end
            _try(operation, server.url, server.headers(min(RIGHTS[operation.method.upper(), operation.path])))


def test_the_page_shows_every_route_and_loads_nothing(server: Any) -> None:
    answer = server.ask("GET", "/docs")
    text = answer.text
    assert all(f"{method} {path}" in text for method, path in TOLD)
    assert not re.search(r"<script|<link|<img|@import|url\(|https?://", text)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    hostile = {"info": {"title": "<b>", "version": "1"}, "paths": {}}
    assert "&lt;b&gt;" in page(hostile)

"""Signing in: the first admin, sessions and tokens and their end, guesses that are slowed, what is never written down."""

from __future__ import annotations

import html
import json
import logging
import re
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
import site_server
from fastapi import Request
from typer.testing import CliRunner

from batchone.pipeline.cli import app
from batchone.pipeline.config import ServerSettings
from batchone.pipeline.errors import InputError
from batchone.pipeline.events import chain_head
from batchone.pipeline.serve.accounts import Account
from batchone.pipeline.serve.app import make_app
from batchone.pipeline.serve.brake import FREE_PER_ACCOUNT, FREE_PER_ADDRESS, LONGEST_WAIT_S, Brake, wait_s
from batchone.pipeline.serve.credentials import IDLE_S, SESSION_S
from batchone.pipeline.serve.edge import MOST_BODY_BYTES, JsonLines
from batchone.pipeline.serve.guard import COOKIE, CSRF_HEADER
from batchone.pipeline.serve.pages.shell import MOST_WAY_BACK
from batchone.pipeline.serve.refusal import Refusal
from batchone.pipeline.serve.rights import API
from batchone.pipeline.serve.services import address_of, make_services

PASSWORD = site_server.PASSWORD


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with site_server.serving(tmp_path_factory.mktemp("sign-in") / "site") as found:
        yield found


def _signed_in(server: Any, name: str, password: str = PASSWORD) -> tuple[dict[str, str], httpx.Response]:
    answer = server.ask("POST", f"{API}/sign-in", json={"name": name, "password": password})
    assert answer.status_code == 200, answer.text
    headers = {"Cookie": f"{COOKIE}={answer.cookies[COOKIE]}", CSRF_HEADER: answer.json()["csrf"], "Origin": server.url}
    return headers, answer


def test_the_first_start_makes_an_admin_whose_password_must_be_changed(server: Any) -> None:
    password = server.services.accounts.first_admin()
    assert password is not None
    assert server.services.accounts.first_admin() is None
    headers, answer = _signed_in(server, "admin", password)
    assert answer.json()["must_change_password"]
    assert server.ask("GET", f"{API}/accounts", headers=headers).status_code == 403
    short = {"old": password, "new": "x" * 14}
    assert server.ask("POST", f"{API}/me/password", headers=headers, json=short).status_code == 422
    assert server.ask("POST", f"{API}/me/password", headers=headers, json=short | {"new": "x" * 15}).status_code == 204
    assert server.ask("GET", f"{API}/me", headers=headers).status_code == 401  # every session ended
    headers, _ = _signed_in(server, "admin", "x" * 15)
    assert server.ask("GET", f"{API}/accounts", headers=headers).status_code == 200
    for change in ({"roles": ["cell"]}, {"disabled": True}):  # the last admin stays
        assert server.ask("PATCH", f"{API}/accounts/admin", headers=headers, json=change).status_code == 409
    made = server.ask("POST", f"{API}/accounts", headers=headers, json={"name": "ward", "roles": ["hospital"], "hospital": "H-9"})
    _, first = _signed_in(server, "ward", made.json()["one_time_password"])
    assert first.json()["must_change_password"]
    wrong = {"name": "ward2", "roles": ["hospital"]}
    assert server.ask("POST", f"{API}/accounts", headers=headers, json=wrong).status_code == 422
    told = [json.loads(line)["what"] for line in (server.site / "events.jsonl").read_text().splitlines()]
    assert "account ward made: hospital of H-9" in told
    assert chain_head(server.site / "events.jsonl") is not None
    assert server.services.accounts.first_admin(again=True) is not None  # a lost password


def test_a_cookie_is_for_our_pages_alone_and_a_token_needs_no_more(server: Any) -> None:
    name = server.person("engineer")
    headers, answer = _signed_in(server, name)
    flags = answer.headers["set-cookie"].lower()
    assert COOKIE.startswith("__Host-")
    assert all(flag in flags for flag in ("httponly", "secure", "samesite=lax", "path=/"))
    assert "domain" not in flags
    body = {"role": "engineer", "days": 1}
    for change in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {CSRF_HEADER: "guessed"}):
        assert server.ask("POST", f"{API}/tokens", headers=headers | change, json=body).status_code == 403
    for missing in ("Origin", CSRF_HEADER):
        without = {key: value for key, value in headers.items() if key != missing}
        assert server.ask("POST", f"{API}/tokens", headers=without, json=body).status_code == 403
    form = server.ask(
        "POST", f"{API}/sign-in", headers={"Content-Type": "text/plain"}, content=json.dumps({"name": "x", "password": "y"})
    )
    assert form.status_code == 422  # what a form of another site can send is not read
    evil = {"Origin": "https://evil.example"}
    assert server.ask("POST", f"{API}/sign-in", headers=evil, json={"name": name, "password": PASSWORD}).status_code == 403
    made = server.ask("POST", f"{API}/tokens", headers=headers, json=body)
    assert made.status_code == 201
    assert server.ask("POST", f"{API}/tokens", headers=headers, json={"role": "admin"}).status_code == 403
    token = {"Authorization": f"Bearer {made.json()['secret']}"}
    assert server.ask("GET", f"{API}/cases", headers=token).status_code == 200
    assert server.ask("POST", f"{API}/tokens", headers=token, json=body).status_code == 403  # a token makes no token
    assert server.ask("DELETE", f"{API}/tokens/{made.json()['id']}", headers=headers).status_code == 204
    assert server.ask("GET", f"{API}/cases", headers=token).status_code == 401
    assert server.ask("POST", f"{API}/sign-out", headers=headers).status_code == 204
    assert server.ask("GET", f"{API}/me", headers=headers).status_code == 401


def test_tokens_and_sessions_end_at_their_time(server: Any) -> None:
    name = server.person("engineer")
    made = server.services.credentials.make_token(name, "engineer", days=1, label="")
    assert made is not None
    token = {"Authorization": f"Bearer {made[1]}"}
    headers, _ = _signed_in(server, name)
    began = server.clock.ahead_s
    try:
        server.clock.ahead_s = began + 86_400 - 60
        assert server.ask("GET", f"{API}/cases", headers=token).status_code == 200
        server.clock.ahead_s = began + 86_400
        assert server.ask("GET", f"{API}/cases", headers=token).status_code == 401
        server.clock.ahead_s = began
        for used_s in range(0, int(SESSION_S), int(IDLE_S) - 60):  # never idle for an hour
            server.clock.ahead_s = began + used_s
            assert server.ask("GET", f"{API}/me", headers=headers).status_code == 200
        server.clock.ahead_s = began + SESSION_S
        assert server.ask("GET", f"{API}/me", headers=headers).status_code == 401
        fresh, _ = _signed_in(server, name)
        server.clock.ahead_s += IDLE_S
        assert server.ask("GET", f"{API}/me", headers=fresh).status_code == 401
    finally:
        server.clock.ahead_s = began


def test_what_an_open_page_asks_by_itself_holds_no_session_open(server: Any) -> None:
    site_server.make_case(server.site, "polled")
    templates = Path(str(files("batchone.pipeline.serve"))) / "pages" / "templates"
    pages = [path.read_text(encoding="utf-8") for path in templates.glob("*.html")]
    asked = {path for page in pages for path in re.findall(r'hx-get="([^"?]+)[^"]*" hx-trigger="every', page)}
    assert len(asked) == 3
    began = server.clock.ahead_s
    try:
        for path in sorted({one.replace("{{ case }}", "polled") for one in asked}):
            headers, _ = _signed_in(server, server.person("engineer"))
            signed_in = server.clock.ahead_s
            for later_s in (IDLE_S / 2, IDLE_S - 30.0):
                server.clock.ahead_s = signed_in + later_s
                assert server.ask("GET", path, headers=headers).status_code == 200
            server.clock.ahead_s = signed_in + IDLE_S
            assert server.ask("GET", path, headers=headers).status_code == 401
    finally:
        server.clock.ahead_s = began


def test_the_way_back_after_a_session_has_its_query(server: Any) -> None:
    page = {"Accept": "text/html"}
    compared = "/review/polled/compare?a=1&b=2"
    longest = "/?find=" + (MOST_WAY_BACK - len("/?find=")) * "a"
    for asked, back in ((compared, compared), (longest, longest), (longest + "a", "/"), ("/machines", "/machines")):
        refused = server.ask("GET", asked, headers=page)
        assert refused.status_code == 303
        form = server.ask("GET", refused.headers["location"])
        assert f'name="next" value="{html.escape(back)}"' in form.text
        given = {"name": server.person("engineer"), "password": PASSWORD, "next": back}
        answer = server.ask("POST", "/sign-in", headers={"Origin": server.url}, data=given)
        assert (answer.status_code, answer.headers["location"]) == (303, back)


def test_a_lost_role_or_a_disabled_account_ends_what_it_gave(server: Any) -> None:
    headers = server.headers("cell")
    accounts = server.services.accounts
    assert server.ask("GET", f"{API}/cases", headers=headers).status_code == 200
    accounts.change("cell", by="test", roles=("engineer",))
    assert server.ask("GET", f"{API}/cases", headers=headers).status_code == 401
    accounts.change("cell", by="test", roles=("cell",))
    assert server.ask("GET", f"{API}/cases", headers=headers).status_code == 200
    accounts.change("cell", by="test", disabled=True)
    assert server.ask("GET", f"{API}/cases", headers=headers).status_code == 401
    assert not accounts.is_password("cell", PASSWORD)


def test_guesses_are_slowed_by_account_and_by_address_also_after_a_restart(tmp_path: Path) -> None:
    clock = site_server.Clock()
    services = make_services(tmp_path, settings=ServerSettings(), clock=clock)
    for _ in range(FREE_PER_ACCOUNT):
        services.brake.admit("ann", "10.0.0.1")
    with pytest.raises(Refusal) as slowed:
        services.brake.admit("ann", "10.0.0.2")  # from anywhere
    assert (slowed.value.status, slowed.value.headers["Retry-After"]) == (429, "1")
    services.brake.admit("bob", "10.0.0.1")  # others are not
    services.store.close()
    again = make_services(tmp_path, settings=ServerSettings(), clock=clock)
    with pytest.raises(Refusal):
        again.brake.admit("ann", "10.0.0.2")
    clock.ahead_s += 1.5
    again.brake.admit("ann", "10.0.0.2")
    with pytest.raises(Refusal):
        again.brake.admit("ann", "10.0.0.2")
    again.brake.succeeded("ann", "10.0.0.2")
    again.brake.admit("ann", "10.0.0.2")
    for guess in range(FREE_PER_ADDRESS):
        again.brake.admit(f"name-{guess}", "10.9.9.9")
    with pytest.raises(Refusal):
        again.brake.admit("yet-another", "10.9.9.9")
    clock.ahead_s -= 3600.0  # set back: nobody waits for the hour to come again
    with pytest.raises(Refusal) as slowed:
        again.brake.admit("yet-another", "10.9.9.9")
    assert slowed.value.headers["Retry-After"] == "1"
    clock.ahead_s += 1.5
    again.brake.admit("yet-another", "10.9.9.9")
    assert [wait_s(count, 5) for count in (0, 4, 5, 6, 10, 1000)] == [0.0, 0.0, 1.0, 2.0, 32.0, LONGEST_WAIT_S]
    assert isinstance(again.brake, Brake)
    again.store.close()


def test_an_unknown_account_is_answered_as_a_known_one_with_a_wrong_password(server: Any) -> None:
    name = server.person("engineer")
    answers = [server.ask("POST", f"{API}/sign-in", json={"name": who, "password": "wrong"}) for who in (name, "nobody")]
    assert {answer.status_code for answer in answers} == {401}
    assert answers[0].json() == answers[1].json()
    seconds: dict[str, float] = {}
    for who in (name, "nobody") * 4:
        began = time.process_time()
        assert not server.services.accounts.is_password(who, "wrong")
        seconds[who] = min(seconds.get(who, 1e9), time.process_time() - began)
    assert 0.5 < seconds[name] / seconds["nobody"] < 2.0  # the same work: one argon2id
    assert min(seconds.values()) > 0.01  # s of computing; a guess costs something


def test_no_secret_lies_in_the_store_and_no_name_in_the_log(server: Any) -> None:
    name = server.person("approver")
    lines: list[str] = []

    class Keeps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(JsonLines().format(record))

    log, handler = logging.getLogger("batchone"), Keeps()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        headers, answer = _signed_in(server, name)
        server.ask("GET", f"{API}/cases/patient-name?q=secret", headers=headers)
        server.ask("POST", f"{API}/sign-in", json={"name": "patient-name", "password": ["secret"]})
        token = server.headers("approver")["Authorization"].split()[1]
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    assert {json.loads(line)["route"] for line in lines} == {f"{API}/sign-in", f"{API}/cases/{{case}}"}
    assert {json.loads(line)["status"] for line in lines} == {200, 404, 422}
    assert not any(word in line for line in lines for word in (name, "patient-name", "secret", PASSWORD, "127.0.0.1"))
    stored = b"".join(path.read_bytes() for path in server.site.glob("server.sqlite*"))
    for secret in (PASSWORD, answer.cookies[COOKIE], token):
        assert secret.encode() not in stored
    assert (server.site / "server.sqlite").stat().st_mode & 0o077 == 0
    assert b"$argon2id$v=19$m=65536,t=3,p=4$" in stored


def test_a_body_beyond_the_limit_is_not_read(server: Any) -> None:
    fits = json.dumps({"name": "x", "password": "y"}).encode()
    headers = {"Content-Type": "application/json"}
    inside = server.ask("POST", f"{API}/sign-in", headers=headers, content=fits.ljust(MOST_BODY_BYTES))
    assert inside.status_code in (401, 429)
    assert server.ask("POST", f"{API}/sign-in", headers=headers, content=fits.ljust(MOST_BODY_BYTES + 1)).status_code == 413


@pytest.mark.parametrize(
    "arguments",
    [
        ["--host", "0.0.0.0"],
        ["--host", "192.0.2.1"],
        ["--host", "site.example"],
        ["--tls-cert", "x.pem"],
        ["--behind-proxy", "http://site.example"],
        ["--behind-proxy", "site.example"],
        ["--behind-proxy", "https://site.example/path"],
    ],
    ids=" ".join,
)
def test_it_never_listens_in_the_clear_beyond_loopback(tmp_path: Path, arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["serve", "--site", str(tmp_path), "--port", "0", *arguments])
    assert isinstance(done.exception, InputError)
    assert list(tmp_path.iterdir()) == []


def test_behind_a_proxy_the_address_is_what_the_proxy_saw_and_never_what_the_sender_says(tmp_path: Path) -> None:
    said = [(b"x-forwarded-for", b"10.0.0.1"), (b"x-forwarded-for", b"10.0.0.2, 192.0.2.7")]
    for origin, expected in (("", "127.0.0.1"), ("https://site.example", "192.0.2.7")):
        services = make_services(tmp_path, settings=ServerSettings(), clock=time.time, origin=origin)
        scope = {"type": "http", "headers": said, "client": ("127.0.0.1", 1), "app": make_app(services)}
        assert address_of(Request(scope)) == expected
        services.store.close()


def test_roles_and_hospital_of_an_account_must_fit(tmp_path: Path) -> None:
    services = make_services(tmp_path, settings=ServerSettings(), clock=time.time)
    for account in (
        Account("a", ("hospital",)),
        Account("a", ("cell",), "H-1"),
        Account("a", ("cell", "cell")),
        Account("a", ("king",)),
    ):
        with pytest.raises(Refusal):
            services.accounts.make(account, by="test")
    services.store.close()

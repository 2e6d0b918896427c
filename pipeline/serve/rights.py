"""Who may do what: one table of every route and the roles that may take it. A route that is not in it cannot be served."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

Role = Literal["hospital", "engineer", "approver", "cell", "admin"]
ROLES: tuple[Role, ...] = ("hospital", "engineer", "approver", "cell", "admin")

ANYONE: frozenset[str] = frozenset({"anyone"})  # also without signing in
SIGNED_IN: frozenset[str] = frozenset(ROLES)
API = "/api/v1"

_READERS = frozenset({"hospital", "engineer", "approver", "cell"})
_HOSPITAL = frozenset({"hospital"})
_ADMIN = frozenset({"admin"})
_LOOKERS = _READERS - {"cell"}
_WORKERS = frozenset({"engineer", "approver"})
_CELL = frozenset({"cell"})
_FACTORY = _WORKERS | {"cell", "admin"}

RIGHTS: MappingProxyType[tuple[str, str], frozenset[str]] = MappingProxyType(
    {
        ("GET", "/health/live"): ANYONE,
        ("GET", "/health/ready"): ANYONE,
        ("GET", "/docs"): ANYONE,
        ("GET", f"{API}/openapi.json"): ANYONE,
        ("GET", "/metrics"): _ADMIN,
        ("POST", f"{API}/sign-in"): ANYONE,
        ("POST", f"{API}/sign-out"): SIGNED_IN,
        ("GET", f"{API}/me"): SIGNED_IN,
        ("POST", f"{API}/me/password"): SIGNED_IN,
        ("GET", f"{API}/tokens"): SIGNED_IN,
        ("POST", f"{API}/tokens"): SIGNED_IN,
        ("DELETE", f"{API}/tokens/{{token}}"): SIGNED_IN,
        ("GET", f"{API}/accounts"): _ADMIN,
        ("POST", f"{API}/accounts"): _ADMIN,
        ("PATCH", f"{API}/accounts/{{name}}"): _ADMIN,
        ("POST", f"{API}/uploads"): _HOSPITAL,
        ("GET", f"{API}/uploads/{{digest}}"): _HOSPITAL,
        ("PATCH", f"{API}/uploads/{{digest}}"): _HOSPITAL,
        ("DELETE", f"{API}/uploads/{{digest}}"): _HOSPITAL,
        ("GET", f"{API}/cases"): _READERS,  # a hospital its own, a cell the released ones
        ("GET", f"{API}/cases/{{case}}"): _READERS,
        ("GET", f"{API}/cases/{{case}}/events"): _READERS - {"cell"},
        ("GET", f"{API}/cases/{{case}}/events/stream"): _READERS - {"cell"},
        ("GET", f"{API}/cases/{{case}}/job"): _READERS,
        ("POST", f"{API}/cases/{{case}}/review"): frozenset({"approver"}),
        ("POST", f"{API}/cases/{{case}}/remake"): _WORKERS | _CELL,  # a cell of what it printed
        ("POST", f"{API}/cases/{{case}}/cancel"): _WORKERS,
        ("POST", f"{API}/cases/{{case}}/revise"): _WORKERS,
        ("POST", f"{API}/cases/{{case}}/workshop"): _CELL,
        ("GET", f"{API}/withdrawn"): _WORKERS | _CELL,
        ("GET", f"{API}/prints"): _WORKERS | _CELL,
        ("GET", f"{API}/prints/{{name}}"): _WORKERS | _CELL,
        ("GET", f"{API}/prints/{{name}}/head"): _CELL,
        ("GET", f"{API}/prints/{{name}}/files"): _CELL,
        ("POST", f"{API}/prints/{{name}}/claim"): _CELL,
        ("POST", f"{API}/prints/{{name}}/renew"): _CELL,  # of its own claim
        ("POST", f"{API}/prints/{{name}}/settle"): _CELL,
        ("POST", f"{API}/prints/{{name}}/move"): _CELL,  # of what it printed itself
        ("POST", f"{API}/prints/{{name}}/free"): _WORKERS | _ADMIN,
        ("GET", f"{API}/records/{{record}}"): _WORKERS | _CELL,
        ("PUT", f"{API}/records/{{record}}"): _CELL,  # of an attempt that it had
        ("GET", "/"): SIGNED_IN,  # the pages, from here on
        ("GET", "/board"): SIGNED_IN,
        ("GET", "/static/{name}"): ANYONE,
        ("GET", "/sign-in"): ANYONE,
        ("POST", "/sign-in"): ANYONE,
        ("POST", "/sign-out"): SIGNED_IN,
        ("GET", "/password"): SIGNED_IN,
        ("POST", "/password"): SIGNED_IN,
        ("GET", "/accounts"): _ADMIN,
        ("POST", "/accounts"): _ADMIN,
        ("GET", "/machines"): _FACTORY,
        ("GET", "/machines/now"): _FACTORY,
        ("GET", "/machines/{machine}/picture/{moment}"): _FACTORY,
        ("GET", "/review/{case}"): _LOOKERS,  # a hospital its own, without findings and forms
        ("GET", "/review/{case}/state"): _LOOKERS,
        ("POST", "/review/{case}/design"): _WORKERS,
        ("POST", "/review/{case}/waive"): _WORKERS,
        ("POST", "/review/{case}/answer"): frozenset({"approver"}),
        ("POST", "/review/{case}/decide"): _WORKERS,
        ("GET", "/review/{case}/compare"): _WORKERS,
        ("GET", "/review/{case}/scene"): _LOOKERS,  # a hospital its own, to look at, without findings
        ("GET", "/review/{case}/volume"): _LOOKERS,
        ("GET", "/review/{case}/surface/{name}"): _LOOKERS,
        ("GET", "/review/{case}/section/{name}"): _LOOKERS,
        ("GET", "/review/{case}/plan.mrk.json"): _WORKERS,
        ("POST", "/review/{case}/plan"): _WORKERS,
        ("GET", "/review/{case}/report/{job}"): _LOOKERS,  # a hospital its released one alone
        ("GET", "/review/{case}/report/{job}/{name}"): _LOOKERS,
        ("GET", "/review/{case}/label"): _LOOKERS,
        ("POST", "/review/{case}/comment"): _LOOKERS,
        ("GET", "/orders/new"): _LOOKERS,
        ("POST", "/orders/new"): _LOOKERS,
        ("GET", "/review/{case}/picture/{name}"): _WORKERS,
    }
)

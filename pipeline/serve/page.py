"""The page that shows the interface: made here from the OpenAPI document, without script and without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

from batchone.pipeline.serve.rights import ANYONE, RIGHTS, SIGNED_IN

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}"
    "h1{font-size:1.6rem}h2{font-size:1.1rem;margin:2rem 0 .3rem}"
    "code{font:14px ui-monospace,monospace;background:#f2f2f2;padding:.1rem .3rem}"
    "pre{font:13px/1.4 ui-monospace,monospace;background:#f2f2f2;padding:.7rem;overflow:auto}"
    "table{border-collapse:collapse;margin:.5rem 0}"
    "td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:left;vertical-align:top}"
    ".who{color:#555}"
)
STYLE_HASH = "sha256-" + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def page(document: dict[str, Any]) -> str:
    """The page in HTML.

    Parameters
    ----------
    document
        The OpenAPI document.
    """
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(document['info']['title'])}</title>",
        f"<style>{_STYLE}</style><h1>{escape(document['info']['title'])} {escape(document['info']['version'])}</h1>",
        f"<p>{escape(document['info'].get('description', ''))}</p>",
    ]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            parts += _route(method.upper(), path, route)
    parts.append("<h1>Documents</h1>")
    for name, schema in sorted(document.get("components", {}).get("schemas", {}).items()):
        parts.append(f'<h2 id="{escape(name)}">{escape(name)}</h2>')
        parts.append(f"<p>{escape(schema.get('description', ''))}</p>")
        rows = "".join(
            f"<tr><td><code>{escape(key)}</code>{' *' if key in schema.get('required', ()) else ''}<td>{_kind(field)}"
            f"<td>{escape(field.get('description', ''))}"
            for key, field in schema.get("properties", {}).items()
        )
        if rows:
            parts.append(f"<table><tr><th>key<th>type<th>meaning{rows}</table>")
    return "\n".join(parts) + "</html>\n"


def _route(method: str, path: str, route: dict[str, Any]) -> list[str]:
    allowed = RIGHTS[method, path]
    who = "anyone" if allowed == ANYONE else "everybody signed in" if allowed == SIGNED_IN else ", ".join(sorted(allowed))
    lines = [
        f"<h2><code>{method} {escape(path)}</code></h2><p class=who>For {who}.</p><p>{escape(route.get('description', ''))}</p>"
    ]
    rows = [
        f"<tr><td><code>{escape(one['name'])}</code>{' *' if one.get('required') else ''}"
        f"<td>{one['in']}<td>{_kind(one['schema'])}<td>{escape(one.get('description', ''))}"
        for one in route.get("parameters", ())
    ]
    for content in route.get("requestBody", {}).get("content", {}).values():
        rows.append(f"<tr><td>body<td>body<td>{_kind(content.get('schema', {}))}<td>")
    for status, answer in route.get("responses", {}).items():
        for content in answer.get("content", {}).values():
            rows.append(f"<tr><td>{status}<td>answer<td>{_kind(content.get('schema', {}))}<td>{escape(answer['description'])}")
    return [*lines, f"<table><tr><th>name<th>in<th>type<th>meaning{''.join(rows)}</table>"] if rows else lines


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    limits = (f"{key} {schema[key]}" for key in ("pattern", "minimum", "maximum", "minLength", "maxLength") if key in schema)
    words = [
        str(schema.get("type", "any")),
        *map(escape, limits),
        *(["one of " + ", ".join(map(str, schema["enum"]))] if "enum" in schema else []),
    ]
    return ", ".join(words)

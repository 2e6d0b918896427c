"""What the server answers when it does not do what was asked: status, what, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping

from batchone.pipeline.order import Model


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """An answer other than the one that was asked for.

    Parameters
    ----------
    status
        HTTP status: 4xx, 503 or 507.
    message, hint
        What, the value, the limit; and what to do next.
    headers
        Further headers of the answer.
    """

    def __init__(self, status: int, message: str, *, hint: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint
        self.headers = dict(headers or {})

    def tree(self) -> dict[str, dict[str, str]]:
        """The JSON document."""
        return {"error": {"message": self.message, "hint": self.hint}}


class Why(Model):
    """What is not done, the value and the limit; and what to do next."""

    message: str
    hint: str


class Refused(Model):
    """Every answer other than the one that was asked for."""

    error: Why


def unknown(what: str) -> Refusal:
    """There is no such thing, or it is not for whoever asks: which of both is not told."""
    return Refusal(404, f"there is no such {what}", hint="check the id and the address")

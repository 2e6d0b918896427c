"""What the server counts, as OpenMetrics text (openmetrics.io, 1.0)."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # upper bounds; 0.1 s is the target of a status


class Requests:
    """Counts requests and their seconds by method, route (its template, never the path itself) and status."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str, int]] = Counter()
        self._buckets: dict[tuple[str, str], list[int]] = {}
        self._seconds: Counter[tuple[str, str]] = Counter()

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        with self._lock:
            self._counts[method, route, status] += 1
            self._buckets.setdefault((method, route), [0] * (len(BOUNDS_S) + 1))[bisect_left(BOUNDS_S, seconds)] += 1
            self._seconds[method, route] += seconds  # type: ignore[assignment]

    def lines(self) -> list[str]:
        """Counter and histogram in OpenMetrics text."""
        with self._lock:
            counts, seconds = sorted(self._counts.items()), dict(self._seconds)
            buckets = {key: list(found) for key, found in sorted(self._buckets.items())}
        lines = ["# HELP batchone_requests Requests by method, route and status.", "# TYPE batchone_requests counter"]
        for (method, route, status), count in counts:
            lines.append(f'batchone_requests_total{{method="{method}",route="{route}",status="{status}"}} {count}')
        lines += [
            "# HELP batchone_request_seconds Time to the end of the answer.",
            "# TYPE batchone_request_seconds histogram",
            "# UNIT batchone_request_seconds seconds",
        ]
        for (method, route), found in buckets.items():
            label, running = f'method="{method}",route="{route}"', 0
            for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), found, strict=True):
                running += count
                lines.append(f'batchone_request_seconds_bucket{{{label},le="{bound}"}} {running}')
            lines.append(f"batchone_request_seconds_count{{{label}}} {running}")
            lines.append(f"batchone_request_seconds_sum{{{label}}} {seconds[method, route]:.6f}")
        return lines


def gauge(name: str, text: str, values: Mapping[str, float] | float, *, label: str = "", unit: str = "") -> list[str]:
    """A gauge with one value, or one for each value of a label."""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} gauge", *([f"# UNIT {name} {unit}"] if unit else [])]
    if isinstance(values, Mapping):
        return lines + [f'{name}{{{label}="{key}"}} {value:.15g}' for key, value in sorted(values.items())]
    return [*lines, f"{name} {values:.15g}"]


def document(lines: Iterable[str]) -> str:
    """The whole text."""
    return "\n".join([*lines, "# EOF"]) + "\n"

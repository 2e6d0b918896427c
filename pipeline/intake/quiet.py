"""Pydicom warns and logs with the values it stumbles over; those values are a patient's."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pydicom_quiet() -> Iterator[None]:
    """Let pydicom neither warn nor log; its exceptions pass, and their texts must not be shown either."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.disabled = True
        try:
            yield
        finally:
            logger.disabled = before

"""Small symmetric systems, solved within compiled loops."""

from __future__ import annotations

import numba as nb
import numpy as np

from batchone.pipeline.values import FloatArray

LEAST_PIVOT = 1e-14  # numerical: the systems here are scaled to about one


@nb.njit(nb.boolean(nb.float64[:, ::1], nb.int64), cache=True, nogil=True)
def factored(matrix: FloatArray, size: int) -> bool:
    """Cholesky factor of a symmetric matrix (lower triangle) in place; False when it is not positive."""
    for i in range(size):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i != j:
                matrix[i, j] = total / matrix[j, j]
            elif total <= LEAST_PIVOT:
                return False
            else:
                matrix[i, i] = np.sqrt(total)
    return True


@nb.njit(nb.void(nb.float64[:, ::1], nb.float64[::1], nb.int64), cache=True, nogil=True)
def substituted(factor: FloatArray, right: FloatArray, size: int) -> None:
    """Solve with a Cholesky factor; the solution replaces ``right``."""
    for i in range(size):
        for k in range(i):
            right[i] -= factor[i, k] * right[k]
        right[i] /= factor[i, i]
    for i in range(size - 1, -1, -1):
        for k in range(i + 1, size):
            right[i] -= factor[k, i] * right[k]
        right[i] /= factor[i, i]


@nb.njit(nb.boolean(nb.float64[:, ::1], nb.float64[::1], nb.int64), cache=True, nogil=True)
def solve(matrix: FloatArray, right: FloatArray, size: int) -> bool:
    """Solve a symmetric positive system in place; False when it is not positive."""
    if not factored(matrix, size):
        return False
    substituted(matrix, right, size)
    return True

"""A kernel on the sphere as a table of short polynomials, for Gram matrices.

However deep the network, on the sphere its kernel is one function of the cosine, smooth in √(1−c) near c = 1 and in √(1+c) near
c = −1 (where it need not be smooth in c). Each half is cut into pieces, halving where a polynomial does not suffice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Profile", "profile"]

Array = NDArray[np.float64]

#: Degree of a piece.
ORDER = 15
#: A piece is at least 2^-FINEST wide, in √(1∓c).
FINEST = 12
#: Where in the piece that ends at c = ±1 it is tested too, from its end.
END = np.concatenate([[0.0], 10.0 ** -np.arange(15.0, 2.0, -0.5)])
#: Error allowed, relative to the largest |K|.
GOOD = 2e-14


@dataclass(frozen=True, eq=False)
class Profile:
    """K(c) in pieces.

    Attributes
    ----------
    index : (2·2^FINEST,) integer array
        Piece for x = √(1−c), in steps of 2^-FINEST, then for x = √(1+c).
    pieces : (P, ORDER+3) array
        Middle, 1/half-width, then the coefficients of t^k, t = (x − middle)/half-width.
    error : float
        Largest error met at test points that were not fitted.
    """

    index: NDArray[np.int64]
    pieces: Array
    error: float


def _transforms(nodes: Array) -> tuple[Array, Array]:
    """From values at the Chebyshev nodes to Chebyshev coefficients, and from these to coefficients of t^k.

    One after the other, not as one product: the coefficients between them fall fast, so little is lost to cancellation.
    """
    m = nodes.size
    to_chebyshev = np.cos(np.outer(np.arange(m), np.arccos(nodes))) * (2.0 / m)
    to_chebyshev[0] /= 2
    powers = np.zeros((m, m))
    for k in range(m):
        powers[: k + 1, k] = np.polynomial.chebyshev.cheb2poly(np.eye(m)[k, : k + 1])
    return to_chebyshev, powers


def profile(kernel: Callable[[Array, Array], Array]) -> Profile:
    """Cut a kernel into pieces.

    Parameters
    ----------
    kernel : callable
        ``kernel(delta, eta)``: K from 1 − c and 1 + c, each (n,).

    Returns
    -------
    Profile

    Examples
    --------
    >>> table = profile(lambda delta, eta: 1 - delta**0.5)
    >>> len(table.pieces), table.error < 2e-14
    (4, True)
    """
    fit_at = np.cos(np.pi * (np.arange(ORDER + 1) + 0.5) / (ORDER + 1))
    test_at = np.array([-0.997, -0.86, -0.55, -0.13, 0.09, 0.48, 0.83, 0.999])
    to_chebyshev, to_powers = _transforms(fit_at)
    at = np.concatenate([fit_at, test_at])
    index, pieces = np.zeros(2 << FINEST, dtype=np.int64), []
    error, count = 0.0, 0
    scale = float(np.max(np.abs(kernel(np.array([0.0, 1.0, 2.0]), np.array([2.0, 1.0, 0.0])))))
    todo = [(side, 0, 0) for side in (0, 1)]  # side, level, number: x in [number, number + 1]/2^level
    while todo:
        width = np.array([0.5 ** (level + 1) for _, level, _ in todo])
        middle = np.array([(2 * number + 1) for _, _, number in todo]) * width
        x = middle[:, None] + width[:, None] * at
        square, far = x * x, np.array([side for side, _, _ in todo], dtype=bool)[:, None]
        small, large = square.ravel(), 2 - square.ravel()
        flip = np.broadcast_to(far, x.shape).ravel()
        values = kernel(np.where(flip, large, small), np.where(flip, small, large)).reshape(x.shape)
        coefficients = values[:, : ORDER + 1] @ to_chebyshev.T @ to_powers.T
        wrong = np.abs(
            coefficients @ np.vander(test_at, ORDER + 1, increasing=True).T - values[:, ORDER + 1 :]
        )
        for i, (side, _, number) in enumerate(todo):
            if number == 0:  # a peak at c = ±1 may be narrower than any distance of the nodes
                near = 2 * width[i] * END
                small, t = near * near, near / width[i] - 1
                ends = (2 - small, small) if side else (small, 2 - small)
                missed = np.abs(np.vander(t, ORDER + 1, increasing=True) @ coefficients[i] - kernel(*ends))
                wrong[i, 0] = max(wrong[i, 0], missed.max())
        again = []
        for i, (side, level, number) in enumerate(todo):
            if level < FINEST and not wrong[i].max() <= GOOD * scale:
                again += [(side, level + 1, 2 * number), (side, level + 1, 2 * number + 1)]
                continue
            error = max(error, float(wrong[i].max()))
            pieces.append(np.concatenate([[middle[i], 1 / width[i]], coefficients[i]]))
            start = (side << FINEST) + (number << (FINEST - level))
            index[start : start + (1 << (FINEST - level))] = count
            count += 1
        todo = again
    return Profile(index, np.array(pieces), error)

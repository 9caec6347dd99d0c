"""Dot-product kernels: functions K(c) of the cosine between two points of the sphere |x|² = d."""

from __future__ import annotations

import abc

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine.errors import InputError

__all__ = ["DotProductKernel"]

Array = NDArray[np.float64]

#: A cosine this far outside [-1, 1] is rounding, and is clipped.
ROUNDING = 1e-12


class DotProductKernel(abc.ABC):
    """A kernel K(c), c the cosine of the angle between two points of the sphere.

    Kernels of ReLU type are smooth in √(1 − c), not in c, so a cosine rounded to float64 loses half the digits near
    c = 1. Subclasses therefore get 1 − c separately: exactly, where the caller knows the angle (:meth:`at_angle`).

    Subclasses define :meth:`_values`, and :attr:`name`.

    Examples
    --------
    >>> import ntkengine as nk
    >>> k = nk.FCN("relu", w_std=2**0.5).kernel("nngp")
    >>> k.at_angle([0.0, 1e-3]).round(9)
    array([1.       , 0.9999995])
    >>> k.name
    'NNGP of 1-hidden-layer relu'
    """

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """A short name, for tables and figures."""

    @abc.abstractmethod
    def _values(self, c: Array, complement: Array) -> Array:
        """K for C-contiguous float64 vectors of cosines, shape (n,), and of 1 − c, shape (n,); returns (n,)."""

    def _values_at_angle(self, theta: Array) -> Array:
        """K for a vector of angles, shape (n,)."""
        return self._values(np.cos(theta), 2 * np.sin(theta / 2) ** 2)

    def __call__(self, c: ArrayLike) -> Array | np.float64:
        """K(c), elementwise.

        Parameters
        ----------
        c : array_like
            Cosines in [-1, 1]; beyond that by at most 1e-12 (rounding) they are clipped.

        Returns
        -------
        float64 scalar or array of the shape of ``c``

        Raises
        ------
        InputError
            If a cosine is not finite or outside [-1, 1].

        Examples
        --------
        >>> import ntkengine as nk
        >>> k = nk.FCN("relu").kernel("nngp")
        >>> k([-1.0, 0.0, 1.0]).round(6)
        array([0.      , 0.159155, 0.5     ])
        """
        points, flat = _vector("c", c)
        _check("c", flat, "a cosine, from -1 to 1", -1 - ROUNDING, 1 + ROUNDING)
        flat = np.clip(flat, -1.0, 1.0)
        return _shaped(self._values(flat, 1 - flat), points)

    def at_angle(self, theta: ArrayLike) -> Array | np.float64:
        """K(cos θ) without loss for nearly equal points.

        Parameters
        ----------
        theta : array_like
            Angles in [0, π].

        Returns
        -------
        float64 scalar or array of the shape of ``theta``

        Raises
        ------
        InputError
            If an angle is not finite or outside [0, π].

        Examples
        --------
        >>> import ntkengine as nk
        >>> k = nk.FCN("relu").kernel("ntk")
        >>> bool(k.at_angle(1e-12) < k.at_angle(0.0))
        True
        """
        points, flat = _vector("theta", theta)
        _check("theta", flat, "an angle in radians, from 0 to π", -ROUNDING, np.pi + ROUNDING)
        return _shaped(self._values_at_angle(np.clip(flat, 0.0, np.pi)), points)

    def __repr__(self) -> str:
        return f"<kernel {self.name}>"


def _vector(argument: str, values: ArrayLike) -> tuple[Array, Array]:
    try:
        points = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"{argument} must be a real number or an array of real numbers, not {values!r}"
        ) from None
    return points, np.ascontiguousarray(points).reshape(-1)


def _check(argument: str, flat: Array, allowed: str, lower: float, upper: float) -> None:
    wrong = ~((flat >= lower) & (flat <= upper))
    if wrong.any():
        raise InputError(
            f"{argument} has the value {flat[wrong][0]!s} ({int(wrong.sum())} of {flat.size} values are not allowed); "
            f"each must be {allowed}"
        )


def _shaped(values: Array, points: Array) -> Array | np.float64:
    return values.reshape(points.shape) if points.ndim else np.float64(values[0])

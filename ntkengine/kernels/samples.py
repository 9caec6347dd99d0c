"""Kernels given by samples (c, K): an interpolant in the angle, and the non-negative power series nearest to the samples.

Samples fix no power series: coefficients of high degree are as free as the kernel between two samples. The coefficients
of a :class:`SampledKernel` are therefore those of the positive-definite kernel nearest to the samples themselves, and the
misfit says whether the samples can be those of a positive-definite kernel at all.
"""

from __future__ import annotations

import csv
import math
import os
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine._check import real_array, shown
from ntkengine.errors import DataError, InputError
from ntkengine.kernels._sample_fit import SAME_ANGLE, Fit, disproved, fit
from ntkengine.kernels.base import ROUNDING, DotProductKernel
from ntkengine.kernels.taylor import PowerSeries

__all__ = ["SampledKernel", "kernel_from_samples", "read_samples"]

Array = NDArray[np.float64]

#: The first and the last angle may be this far, in radians, from 0 and π: K is extrapolated over that.
MARGIN = 0.05
#: Largest angle, in radians, between neighbouring samples.
HOLE = 0.35
#: Samples are taken to be good to this part of the largest |K| unless sigma says otherwise.
NOISE = 1e-3
#: Repeated samples may lie this many standard deviations from their mean.
OUTLIER = 5.0
#: The largest |K| is between one over this number and this number.
SIZE = 1e100


class SampledKernel(DotProductKernel):
    r"""A kernel through samples, and the positive-definite kernel nearest to them.

    Between samples K is a cubic in the angle θ, with the slopes of the cubic spline, limited (Hyman 1983) so that K is
    monotonic wherever the samples are, but next to their turning points. In θ, not in c, since kernels of ReLU type are
    smooth in θ only. Beyond the first and the last sample, at most 0.05 away from 0 and π, K is a parabola, held at its
    vertex.

    :meth:`taylor` gives the coefficients b_k ≥ 0 of the positive-definite kernel nearest to the samples, in least squares over
    the samples: with degrees to 2000, and where these miss the samples by more than noise with higher ones, 2 % apart, as long
    as the samples tell them apart. Its ``error`` is the rms misfit and what samples with this noise leave open
    (:func:`ntkengine.kernels.nearest.undetermined`); what K(1) has beyond the fit and the noise is in its ``tail``.

    Parameters
    ----------
    angles : (n,) array_like
        In [0, π], in any order, n ≥ 3; at most 0.05 from 0, at most 0.05 from π and with no hole of more than 0.35
        between. Samples at one angle are averaged.
    values : (n,) array_like
        K.
    sigma : float, optional
        Standard deviation of the values' noise. None: 1e-3 of the largest \|K\|; used to judge, not for the coefficients.
    label : str
        The kernel's name.

    Attributes
    ----------
    angles, values : (n,) array
        Sorted by angle, samples at one angle averaged.
    noise : float
        ``sigma``, at least 1e-12 of the largest \|K\|, which is rounding; or the 1e-3 of it that stands for ``sigma``.
    misfit : float
        Root mean square distance of the samples from the nearest positive-definite kernel in c.
    positive_definite : bool or None
        Whether that misfit is no more than noise: at most ``noise·(1 + 3/√(2n))``. None where it is more, but not shown to be
        more for positive-definite kernels of whatever degrees.

    Raises
    ------
    InputError
        If an entry is not finite, an angle is outside [0, π], lengths differ, the samples do not cover the sphere, samples
        at one angle lie more than 5 times the noise from their mean, or the largest \|K\| is not 0 nor from 1e-100 to 1e100.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkengine.kernels.samples import SampledKernel
    >>> theta = np.linspace(0, np.pi, 40)
    >>> k = SampledKernel(theta, np.exp(np.cos(theta)))
    >>> k
    <kernel 40 samples>
    >>> bool(abs(k(0.3) - np.exp(0.3)) < 1e-5), k.positive_definite
    (True, True)
    >>> k.taylor(3).round(3)
    array([1.   , 1.   , 0.5  , 0.167])
    """

    def __init__(
        self, angles: ArrayLike, values: ArrayLike, *, sigma: float | None = None, label: str | None = None
    ) -> None:
        theta, K = _vectors("angles", angles, "values", values)
        _within("angles", theta, "an angle in radians, from 0 to π", 0.0, np.pi)
        known = _checked_sigma(sigma)
        largest = int(np.argmax(np.abs(K)))
        if K[largest] and not 1 / SIZE <= abs(K[largest]) <= SIZE:
            raise InputError(
                f"the largest of the values is values[{largest}] = {K[largest]:.6g}; its size must be from {1 / SIZE:g} to "
                f"{SIZE:g}: multiply all of them by a number"
            )
        size = float(np.abs(K).max())
        self.noise = NOISE * size if known is None else max(known, ROUNDING * size)
        advice = "or give their noise by sigma" if known is None else "or give a larger sigma"
        self.angles, self.values = _merged(np.clip(theta, 0.0, np.pi), K, self.noise, advice)
        _covering(self.angles)
        self._label = label or f"{theta.size} samples"
        self._slopes = _limited_slopes(self.angles, self.values)
        self._fits: dict[float, Fit] = {}

    @property
    def name(self) -> str:
        """The label, by default the number of samples."""
        return self._label

    @property
    def samples(self) -> tuple[SampledKernel, ...]:
        """Itself."""
        return (self,)

    @property
    def finest_angle(self) -> float:
        """The second smallest angle sampled: below it K is the interpolant's alone."""
        return float(self.angles[1])

    def _values(self, c: Array, complement: Array) -> Array:
        small = 2 * np.arcsin(np.sqrt(np.clip(complement, 0.0, 2.0) / 2))
        return self._values_at_angle(np.where(c > 0, small, np.arccos(c)))

    def _values_at_angle(self, theta: Array) -> Array:
        from scipy.interpolate import CubicHermiteSpline

        x, K = self.angles, self.values
        out = CubicHermiteSpline(x, K, self._slopes)(np.clip(theta, x[0], x[-1]))
        before, after = theta < x[0], theta > x[-1]
        if before.any():
            out[before] = _beyond(x, K, x[0], x[0] - theta[before])
        if after.any():
            out[after] = _beyond(-x[::-1], K[::-1], np.pi - x[-1], theta[after] - x[-1])
        return out

    @property
    def misfit(self) -> float:
        """Root mean square distance of the samples from the nearest positive-definite kernel."""
        return self._fit(0.0).misfit

    @cached_property
    def positive_definite(self) -> bool | None:
        """Whether the misfit is within the noise; None where it is not, and nothing shows that it must be larger."""
        if self.misfit <= self._enough:
            return True
        nearest_end = min(self.angles[0], np.pi - self.angles[-1])
        there = float(self._values_at_angle(np.array([nearest_end]))[0])
        return False if disproved(self.angles, self.values, self._fit(0.0), there, self._enough) else None

    @property
    def _enough(self) -> float:
        """What noise makes of the misfit of the kernel itself, but in one of 700 cases."""
        return self.noise * (1 + 3 / math.sqrt(2 * self.angles.size))

    def _fit(self, ratio: float) -> Fit:
        """The non-negative series in ρ, σ_b/σ_w = ratio, nearest to the samples."""
        if ratio not in self._fits:
            self._fits[ratio] = fit(self.angles, self.values, ratio, self.noise, self._enough)
        return self._fits[ratio]

    def _power_series(self, degree: int, w_std: float, b_std: float) -> PowerSeries:
        degrees, found, known, misfit = self._fit(b_std / w_std)
        held = degrees <= degree
        b = np.zeros(degree + 1)
        b[degrees[held].astype(np.int64)] = found[held]
        left, above = self._at_one - math.fsum(found), OUTLIER * max(self.noise, misfit)
        tail = math.fsum(found[~held]) + (left if left > above else 0.0)
        return PowerSeries(b, error=np.interp(np.arange(degree + 1.0), degrees, known), tail=tail)


def kernel_from_samples(c: ArrayLike, K: ArrayLike, *, sigma: float | None = None) -> SampledKernel:
    """A dot-product kernel through samples.

    Parameters
    ----------
    c : (n,) array_like
        Cosines in [-1, 1], in any order, n ≥ 3. They must reach from c = -0.9988 or less to 0.9988 or more (0.05 radians
        from either end), without a hole of more than 0.35 radians.
    K : (n,) array_like
        The kernel's values.
    sigma : float, optional
        Standard deviation of their noise, if it is known.

    Returns
    -------
    SampledKernel

    Raises
    ------
    InputError
        If an entry is not finite, a cosine is outside [-1, 1], lengths differ, there are fewer than 3 samples, they leave
        out an interval (the text names it), or samples at one cosine contradict each other.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkengine.kernels import samples
    >>> c = np.linspace(-1, 1, 101)
    >>> k = samples.kernel_from_samples(c, np.sinh(2 * c))
    >>> k([-1.0, 0.02, 1.0]).round(5)  # exact at the samples
    array([-3.62686,  0.04001,  3.62686])
    """
    cosine, values = _vectors("c", c, "K", K)
    _within("c", cosine, "a cosine, from -1 to 1", -1.0, 1.0)
    return SampledKernel(np.arccos(np.clip(cosine, -1.0, 1.0)), values, sigma=sigma)


# --- checks ----------------------------------------------------------------------------------------------------------


def _vectors(first: str, x: ArrayLike, second: str, y: ArrayLike) -> tuple[Array, Array]:
    one, other = real_array(first, x), real_array(second, y)
    for name, array in ((first, one), (second, other)):
        if array.ndim != 1:
            raise InputError(f"{name} has shape {array.shape}; it must be a vector (n,)")
    if one.size != other.size:
        raise InputError(
            f"{first} has {one.size} entries and {second} has {other.size}; give one {second} for each"
        )
    if one.size < 3:
        raise InputError(f"{first} has {one.size} entries; a kernel needs at least 3 samples")
    return one, other


def _checked_sigma(sigma: float | None) -> float | None:
    if sigma is None:
        return None
    number = float(real_array("sigma", sigma)) if np.ndim(sigma) == 0 else math.nan
    if not number > 0:
        raise InputError(
            f"sigma is {shown(sigma)}; it must be a standard deviation above 0, or None if it is not known"
        )
    return number


def _within(name: str, array: Array, allowed: str, lower: float, upper: float) -> None:
    wrong = np.flatnonzero(~((array >= lower - ROUNDING) & (array <= upper + ROUNDING)))
    if wrong.size:
        raise InputError(f"{name}[{wrong[0]}] is {array[wrong[0]]:.9g}; each must be {allowed}")


def _covering(theta: Array) -> None:
    """InputError that names the interval, if the sorted angles leave out too much."""
    edges = np.concatenate([[0.0], theta, [np.pi]])
    gaps, allowed = np.diff(edges), np.full(theta.size + 1, HOLE)
    allowed[[0, -1]] = MARGIN
    worst = int(np.argmax(gaps - allowed))
    if gaps[worst] > allowed[worst] + SAME_ANGLE:
        low, high = edges[worst], edges[worst + 1]
        at_end = worst in (0, theta.size)
        raise InputError(
            f"the samples leave out the angles from {low:.4g} to {high:.4g} (c from {np.cos(low):.6g} down to "
            f"{np.cos(high):.6g}); allowed is a gap of at most {allowed[worst]:g} radians "
            f"{'at either end' if at_end else 'between samples'}: add samples there"
        )


def _merged(theta: Array, K: Array, noise: float, advice: str) -> tuple[Array, Array]:
    """Sorted samples, those at one angle averaged; InputError where they differ by more than noise."""
    order = np.argsort(theta, kind="stable")
    theta, K = theta[order], K[order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(theta) > SAME_ANGLE]))
    counts = np.diff([*starts, theta.size])
    x, y = np.add.reduceat(theta, starts) / counts, np.add.reduceat(K, starts) / counts
    off = np.abs(K - np.repeat(y, counts))
    if off.max() > OUTLIER * noise:
        at = int(np.argmax(off))
        run = int(np.searchsorted(starts, at, side="right")) - 1
        group = K[starts[run] : starts[run] + counts[run]]
        raise InputError(
            f"{counts[run]} samples at c = {np.cos(x[run]):.9g} (angle {x[run]:.9g}) contradict each other: K from "
            f"{group.min():.6g} to {group.max():.6g}, more than {OUTLIER:g} times the noise {noise:.3g} from their mean; "
            f"remove the wrong ones, {advice}"
        )
    single = counts == 1  # to the last bit what was given
    x[single], y[single] = theta[starts[single]], K[starts[single]]
    return x, y


# --- the interpolant -------------------------------------------------------------------------------------------------


def _limited_slopes(x: Array, y: Array) -> Array:
    """Slopes (n,) of the cubic spline, limited so that the interpolant is monotonic where the samples are (Hyman 1983).

    Of the sign of the two secants beside them and at most 3 times the smaller. Where the samples turn, which is where the
    four nearest secants have both signs, they may be as large as the larger one, so that an extremum between samples is met.
    """
    from scipy.interpolate import CubicSpline

    slopes = CubicSpline(x, y)(x, 1)
    secants = np.diff(y) / np.diff(x)
    around = np.pad(secants, 2, mode="edge")
    before, left, right, after = (around[j : j + x.size] for j in range(4))
    near = np.array([before, left, right, after])
    least, largest = (f(np.abs(left), np.abs(right)) for f in (np.minimum, np.maximum))
    turning = (near.min(axis=0) < 0) & (near.max(axis=0) > 0)
    slopes[~turning & (slopes * left < 0)] = 0.0
    bound = np.where(turning, np.maximum(largest, 3 * least), 3 * least)
    return np.clip(slopes, -bound, bound)


def _beyond(x: Array, y: Array, gap: float, distance: Array) -> Array:
    """Extrapolate past x[0] by ``distance`` (n,) up to ``gap``: a parabola through three samples, held at its vertex.

    The three are at least as far apart as the gap, so that the noise of samples close together is not magnified.
    """
    second = int(np.searchsorted(x, x[0] + gap))
    third = int(np.searchsorted(x, x[second] + gap))
    h1, h2 = x[second] - x[0], x[third] - x[0]
    s1, s2 = (y[second] - y[0]) / h1, (y[third] - y[0]) / h2
    bend = (s2 - s1) / (h2 - h1)
    slope = bend * h1 - s1  # of growing distance
    if slope * bend < 0:
        distance = np.minimum(distance, -slope / (2 * bend))
    return y[0] + distance * (slope + bend * distance)


# --- files -----------------------------------------------------------------------------------------------------------

_COSINE = ("c", "cos", "cosine", "rho", "ρ")
_ANGLE = ("angle", "theta", "θ")


def read_samples(path: str | os.PathLike[str], *, sigma: float | None = None) -> SampledKernel:
    r"""A kernel from a CSV file of two columns.

    UTF-8 text; columns separated by tab, ``;``, ``,`` or blanks; a decimal point; blank lines and lines that begin with
    ``#`` are left out. Without a header the columns are the cosine c and K. A header names them: ``c`` (also cos, cosine,
    rho) or ``angle`` (also theta; in radians), and K by any other name.

    Parameters
    ----------
    path : str or path
    sigma : float, optional
        Standard deviation of the values' noise, if it is known.

    Returns
    -------
    SampledKernel

    Raises
    ------
    DataError
        If the file cannot be read, a line is not two finite numbers (the text names it), or the samples do not cover the sphere
        (see :class:`SampledKernel`).
    InputError
        If ``sigma`` is not allowed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from ntkengine.kernels.samples import read_samples
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "k.csv")
    ...     _ = file.write_text("angle;K\n" + "".join(f"{i / 10};{3 - i / 10}\n" for i in range(32)))
    ...     k = read_samples(file)
    >>> k, round(float(k.at_angle(0.25)), 6)
    (<kernel samples of k.csv>, 2.75)
    """
    try:
        file = Path(path).expanduser()
    except (TypeError, RuntimeError) as error:
        raise InputError(f"path is {path!r}; expected the path of a file: {error}") from None
    where = f"file {str(path)!r}"
    rows, kind = _parsed(_text(file, where), where)
    angles, values = (np.array(column) for column in zip(*rows))
    if kind == "c":
        angles = np.arccos(np.clip(angles, -1.0, 1.0))
    _checked_sigma(sigma)
    try:
        return SampledKernel(angles, values, sigma=sigma, label=f"samples of {file.name}")
    except InputError as error:
        raise DataError(f"{where}: {error}") from None


def _text(file: Path, where: str) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{where} does not exist: check the path") from None
    except IsADirectoryError:
        raise DataError(f"{where} is a folder; give the path of a file in it") from None
    except UnicodeDecodeError:
        raise DataError(f"{where} is not UTF-8 text; export the samples as CSV text") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{where} cannot be read: {error}") from None


def _parsed(text: str, where: str) -> tuple[list[tuple[float, float]], str]:
    """Rows of (first variable, K), and which variable that is: "c" or "angle"."""
    records = [
        (number, line)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    separator, kind, reverse = None, "c", False
    rows: list[tuple[float, float]] = []
    for index, (number, line) in enumerate(records):
        place = f"{where}, line {number}"
        if index == 0:
            separator = next((mark for mark in "\t;," if mark in line), None)
        cells = _cells(line, separator, place)
        if len(cells) != 2:
            raise DataError(
                f"{place}: {len(cells)} column{'' if len(cells) == 1 else 's'}, expected 2, c and K, "
                "separated by tab, ';', ',' or blanks as on the first line"
            )
        if index == 0 and all(_number(cell) is None for cell in cells):
            kind, reverse = _header(cells, place)
            continue
        x, y = (_finite(cell, place) for cell in (reversed(cells) if reverse else cells))
        if kind == "c" and not abs(x) <= 1 + ROUNDING:
            raise DataError(
                f"{place}: c is {x:.9g}; a cosine is from -1 to 1. For angles in radians name the columns: angle,K"
            )
        if kind == "angle" and not 0 <= x <= math.pi + SAME_ANGLE:
            raise DataError(f"{place}: the angle is {x:.9g}; it must be from 0 to π, in radians")
        rows.append((x, y))
    if len(rows) < 3:
        raise DataError(f"{where} holds {len(rows)} samples; a kernel needs at least 3")
    return rows, kind


def _cells(line: str, separator: str | None, place: str) -> list[str]:
    if separator is None:
        return line.split()
    try:
        (cells,) = csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True)
    except csv.Error as error:
        raise DataError(f"{place} cannot be read: {error}; check its quotes") from None
    return [cell.strip() for cell in cells]


def _header(cells: list[str], place: str) -> tuple[str, bool]:
    """Which variable the header names, and whether K comes first."""
    for i, cell in enumerate(cells):
        word = cell.strip("\"' ").lower()
        if word in _COSINE or word in _ANGLE:
            return ("c" if word in _COSINE else "angle"), i == 1
    hint = "; numbers are written with a decimal point" if any("," in cell for cell in cells) else ""
    raise DataError(
        f"{place}: the header is {cells[0]!r}, {cells[1]!r}; one column must be called c (cos, cosine, rho) or "
        f"angle (theta; in radians), and the other is K{hint}"
    )


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _finite(cell: str, place: str) -> float:
    value = _number(cell)
    if value is None or not math.isfinite(value):
        hint = " with a decimal point" if "," in cell else ""
        raise DataError(
            f"{place}: found {cell!r}, expected a finite number{hint}; mend the line, or leave it out"
        )
    return value

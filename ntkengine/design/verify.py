"""A design at finite width: the empirical kernel of networks drawn at random, against the kernel it was made for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ntkengine import _jit
from ntkengine._check import integer, shown
from ntkengine.design.record import unbiased
from ntkengine.errors import InputError
from ntkengine.finite.network import available_bytes, check_shape

if TYPE_CHECKING:
    from ntkengine.design.record import Design

__all__ = ["Verification", "verify"]

Array = NDArray[np.float64]

#: Angles between the fixed point and the others.
ANGLES = 33
#: What rounding may do to a kernel of networks in float32, as a part of the largest value of the target.
_ROUNDING = 1e-6
#: Where targets or variances are smaller or larger than this, networks are computed in float64.
_SMALLEST, _LARGEST = 1e-20, 1e20
#: What a kernel has besides the bias must be this part of it: rounding in float64 is then 1e-6 of that.
_LOST = 1e-9


@dataclass(frozen=True, eq=False, repr=False)
class Verification:
    """Empirical kernels of an ensemble between one point of the sphere and points at all angles from it.

    Attributes
    ----------
    width, members, seed : int
    angles : (n,) array
        In [0, π].
    curves : (members, n) array
        Each member's kernel.
    designed, target : (n,) arrays
        The network's kernel at infinite width, and the target.
    bias : float
        ω_b², which all kernels have in common: errors are measured against what they have besides.

    Examples
    --------
    >>> import ntkengine as nk
    >>> found = nk.reverse_engineer("exp(c)", kind="nngp").verify(width=256, members=4, seed=1)
    >>> found
    <verification of 4 networks of width 256, seed 1, at 33 angles>
    >>> found.curves.shape, bool(found.rms_error < 0.1 * found.target[0])
    ((4, 33), True)
    """

    width: int
    members: int
    seed: int
    angles: Array
    curves: Array
    designed: Array
    target: Array
    bias: float = 0.0

    def __repr__(self) -> str:
        return (
            f"<verification of {self.members} networks of width {self.width}, seed {self.seed}, "
            f"at {self.angles.size} angles>"
        )

    @property
    def mean(self) -> Array:
        """Over members, (n,)."""
        return np.asarray(self.curves.mean(axis=0))

    @property
    def standard_error(self) -> Array:
        """Of :attr:`mean`, (n,)."""
        return np.asarray(self._scale * _standard_error(self._own))

    @property
    def z(self) -> Array:
        """(mean − target)/standard error at each angle, (n,). Neighbouring angles are correlated.

        Where all members agree: 0 if they agree with the target, to rounding, else ±inf.
        """
        return _ratio((self.mean - self.target) / self._scale, _standard_error(self._own))

    @property
    def z_score(self) -> float:
        """The same for the average over all angles: one number, standard normal (Student, members − 1) if all is right."""
        averages = ((self.curves - self.target) / self._scale).mean(axis=1)
        return float(_ratio(averages.mean(), _standard_error(averages)))

    @property
    def rms_error(self) -> float:
        """Root mean square over members and angles of one network's distance from the kernel at infinite width."""
        return float(self._scale * np.sqrt((((self.curves - self.designed) / self._scale) ** 2).mean()))

    @property
    def _scale(self) -> float:
        """The largest value of the target less the bias, in which squares neither overflow nor vanish."""
        return max(float(np.abs(self.target - self.bias).max()), _LOST * self._top) or 1.0

    @property
    def _top(self) -> float:
        return float(np.abs(self.target).max())

    @property
    def _own(self) -> Array:
        """The curves less the bias, in units of the scale."""
        return np.asarray((self.curves - self.bias) / self._scale)

    @property
    def within(self) -> float:
        """Share of angles at which |z| <= 3."""
        return float((np.abs(self.z) <= 3).mean())

    def report(self) -> str:
        """A text table."""
        scale, alike = self._top or 1.0, ""
        if np.isinf(self.z_score):
            off = float(np.abs(self.mean - self.target).max()) / scale
            alike = f": the networks are all alike, and up to {off:.1e} of K(1) from the target"
        rows = [
            ("networks", f"{self.members} of width {self.width}, seed {self.seed}"),
            ("z-score", f"{self.z_score:+.2f} (of the average over {self.angles.size} angles){alike}"),
            ("angles", f"{self.within:.0%} within 3 standard errors of the target; largest |z| {np.abs(self.z).max():.2f}"),
            ("one network", f"{self.rms_error / scale:.2%} of K(1) from the kernel at infinite width (rms)"),
        ]  # fmt: skip
        size = max(len(key) for key, _ in rows)
        return "\n".join(f"{key:<{size}}  {value}" for key, value in rows)


def _standard_error(curves: Array) -> Array:
    """Of the mean over the first axis."""
    return np.asarray(curves.std(axis=0, ddof=1) / np.sqrt(len(curves)))


def _ratio(difference: Array, error: Array) -> Array:
    """Difference/error; 0 where both are rounding; ±inf where only the error is: what a sum in float64 leaves of it."""
    error = np.where(error <= _ROUNDING**2, 0.0, error)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = difference / error
    return np.where((np.abs(difference) <= _ROUNDING) & (error <= _ROUNDING), 0.0, ratio)


def verify(
    design: Design,
    width: int = 4096,
    members: int = 16,
    seed: int = 0,
    *,
    n_inputs: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """The empirical NTK or NNGP kernel of finite networks with a design's activation.

    One random great circle of the sphere |x|² = d, the same for all members; member i is drawn from its own stream of ``seed``.
    The distance of a member from the kernel at infinite width falls as 1/√width. Networks are computed in float32, in float64
    where the target is beyond 1e±20, or a standard deviation of the network beyond 1e±10; the readout bias's ω_b², the same in
    all, is added in float64.

    Parameters
    ----------
    design : Design
    width : int
        N.
    members : int
        E, at least 2.
    seed : int
    n_inputs : int
        d, at least 2.
    progress : callable, optional
        Called as ``progress(members_done, members)``.

    Returns
    -------
    Verification

    Raises
    ------
    InputError
        If a number is out of range, ``progress`` cannot be called, networks or curves do not fit into memory, or the kernel is
        lost in the rounding of ω_b².

    Examples
    --------
    >>> import ntkengine as nk
    >>> found = nk.reverse_engineer("c**3 + c", kind="ntk").verify(width=512, members=8)
    >>> abs(found.z_score) < 4
    True
    """
    width, members = integer("width", width, 1), integer("members", members, 2)
    seed, d = integer("seed", seed, 0), integer("n_inputs", n_inputs, 2)
    if progress is not None and not callable(progress):
        raise InputError(
            f"progress must be a function of (members_done, members), or None, not {shown(progress)}"
        )
    check_shape(design.fcn, width, d, 1, 1, "float32")
    _check_memory(width, members, d)
    angles = np.linspace(0.0, np.pi, ANGLES)
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1 << 20,)))
    frame, _ = np.linalg.qr(generator.standard_normal((d, 2)))
    points = np.sqrt(d) * (np.cos(angles)[:, None] * frame[:, 0] + np.sin(angles)[:, None] * frame[:, 1])
    target, bias = np.asarray(design.target.at_angle(angles)), design.fcn.readout_b_std**2
    fcn = replace(design.fcn, readout_b_std=0.0)  # the same networks: the readout's bias is drawn last
    own = unbiased(fcn, design.kind, angles)
    top = float(np.abs(own).max())
    if top < _LOST * bias and np.ptp(own) > _ROUNDING * top:
        raise InputError(
            f"readout_b_std is {design.fcn.readout_b_std:g}, and beside its square the rest of the kernel, {top:.3g}, is lost "
            "in rounding; choose a smaller readout_b_std"
        )
    squares = [std**2 for std in (design.fcn.w_std, design.fcn.b_std, design.fcn.readout_w_std)]
    plain = all(size == 0 or _SMALLEST <= size <= _LARGEST for size in (top, *squares))
    dtype = "float32" if plain else "float64"
    curves = []
    with _jit.blas_single_thread():
        for member in range(members):
            nets = fcn.init(width=width, n_inputs=d, seed=seed, members=[member], dtype=dtype)
            empirical = nets.empirical_ntk if design.kind == "ntk" else nets.empirical_nngp
            curves.append(empirical(points[:1], points)[0, 0].astype(np.float64) + bias)
            if progress is not None:
                progress(member + 1, members)
    return Verification(
        width,
        members,
        seed,
        angles,
        np.array(curves),
        np.asarray(design.kernel.at_angle(angles)),
        target,
        bias,
    )


def _check_memory(width: int, members: int, d: int) -> None:
    """InputError unless the curves with what is computed from them, the points, and a member with its layers fit."""
    curves = 4 * 8 * members * ANGLES
    networks = 8 * (d + 2) * width + (ANGLES + 1) * (8 * 4 * d + 4 * 4 * width)
    needed, free = curves + networks, available_bytes()
    if needed > free:
        raise InputError(
            f"{members} members of width {width} and {d} inputs need {needed / 2**30:.1f} GiB, but {free / 2**30:.1f} GiB are "
            "free; lower width, members or n_inputs"
        )

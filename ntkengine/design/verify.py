"""A design at finite width: the empirical kernel of networks drawn at random, against the kernel it was made for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ntkengine import _jit
from ntkengine._check import integer

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
        return np.asarray(self._scale * _standard_error(self.curves / self._scale))

    @property
    def z(self) -> Array:
        """(mean − target)/standard error at each angle, (n,). Neighbouring angles are correlated.

        Where all members agree: 0 if they agree with the target, to rounding, else ±inf.
        """
        scale = self._scale
        return _ratio((self.mean - self.target) / scale, _standard_error(self.curves / scale))

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
        """The largest value of the target, in which squares neither overflow nor vanish."""
        return float(np.abs(self.target).max()) or 1.0

    @property
    def within(self) -> float:
        """Share of angles at which |z| <= 3."""
        return float((np.abs(self.z) <= 3).mean())

    def report(self) -> str:
        """A text table."""
        scale, alike = self._scale, ""
        if np.isinf(self.z_score):
            off = float(np.abs(self.mean - self.target).max()) / scale
            alike = f": the networks are all alike, and up to {off:.1e} of K(1) from the target"
        rows = [
            ("networks", f"{self.members} of width {self.width}, seed {self.seed}"),
            ("z-score", f"{self.z_score:+.2f} (average over {self.angles.size} angles){alike}"),
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
    where the target is beyond 1e±20, or a standard deviation of the network beyond 1e±10.

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
        If a number is out of range, or the networks do not fit into memory.

    Examples
    --------
    >>> import ntkengine as nk
    >>> found = nk.reverse_engineer("c**3 + c", kind="ntk").verify(width=512, members=8)
    >>> abs(found.z_score) < 4
    True
    """
    width, members = integer("width", width, 1), integer("members", members, 2)
    seed, d = integer("seed", seed, 0), integer("n_inputs", n_inputs, 2)
    angles = np.linspace(0.0, np.pi, ANGLES)
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1 << 20,)))
    frame, _ = np.linalg.qr(generator.standard_normal((d, 2)))
    points = np.sqrt(d) * (np.cos(angles)[:, None] * frame[:, 0] + np.sin(angles)[:, None] * frame[:, 1])
    target = np.asarray(design.target.at_angle(angles))
    top = float(np.abs(target).max())
    squares = [std**2 for std in (design.fcn.w_std, design.fcn.b_std, design.fcn.readout_w_std)]
    plain = all(size == 0 or _SMALLEST <= size <= _LARGEST for size in (top, *squares))
    dtype = "float32" if plain else "float64"
    curves = []
    with _jit.blas_single_thread():
        for member in range(members):
            nets = design.fcn.init(width=width, n_inputs=d, seed=seed, members=[member], dtype=dtype)
            empirical = nets.empirical_ntk if design.kind == "ntk" else nets.empirical_nngp
            curves.append(empirical(points[:1], points)[0, 0].astype(np.float64))
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
    )

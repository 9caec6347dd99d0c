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


@dataclass(frozen=True, eq=False)
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
    """

    width: int
    members: int
    seed: int
    angles: Array
    curves: Array
    designed: Array
    target: Array

    @property
    def mean(self) -> Array:
        """Over members, (n,)."""
        return np.asarray(self.curves.mean(axis=0))

    @property
    def standard_error(self) -> Array:
        """Of :attr:`mean`, (n,)."""
        return np.asarray(self.curves.std(axis=0, ddof=1) / np.sqrt(self.members))

    @property
    def z(self) -> Array:
        """(mean − target)/standard error at each angle, (n,). Neighbouring angles are correlated."""
        error = self.standard_error
        return np.divide(self.mean - self.target, error, out=np.zeros_like(error), where=error > 0)

    @property
    def z_score(self) -> float:
        """The same for the average over all angles: one number, standard normal (Student, members − 1) if all is right."""
        averages = (self.curves - self.target).mean(axis=1)
        error = averages.std(ddof=1) / np.sqrt(self.members)
        return float(averages.mean() / error) if error > 0 else 0.0

    @property
    def rms_error(self) -> float:
        """Root mean square over members and angles of one network's distance from the kernel at infinite width."""
        return float(np.sqrt(((self.curves - self.designed) ** 2).mean()))

    @property
    def within(self) -> float:
        """Share of angles at which |z| <= 3."""
        return float((np.abs(self.z) <= 3).mean())

    def report(self) -> str:
        """A text table."""
        scale = float(np.abs(self.target).max()) or 1.0
        rows = [
            ("networks", f"{self.members} of width {self.width}, seed {self.seed}"),
            ("z-score", f"{self.z_score:+.2f} (average over {self.angles.size} angles)"),
            ("angles", f"{self.within:.0%} within 3 standard errors of the target; largest |z| {np.abs(self.z).max():.2f}"),
            ("one network", f"{self.rms_error / scale:.2%} of K(1) from the kernel at infinite width (rms)"),
        ]  # fmt: skip
        size = max(len(key) for key, _ in rows)
        return "\n".join(f"{key:<{size}}  {value}" for key, value in rows)


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
    The distance of a member from the kernel at infinite width falls as 1/√width.

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
    curves = []
    with _jit.blas_single_thread():
        for member in range(members):
            nets = design.fcn.init(width=width, n_inputs=d, seed=seed, members=[member])
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
        np.asarray(design.target.at_angle(angles)),
    )

"""Gradient descent seen through the NTK: outputs move as f_{t+1} − y = (1 − (2 lr/n) Θ)(f_t − y) near initialisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ntkengine.finite.network import check_inputs

if TYPE_CHECKING:
    from ntkengine.finite.network import Networks

__all__ = ["max_learning_rate"]

#: Rows used at most: the top eigenvalue of Θ/n settles long before.
_MAX_ROWS = 2000


def max_learning_rate(net: Networks, X: ArrayLike) -> float:
    """Largest stable learning rate of full-batch gradient descent on ``X``: n/λ_max of the NTK's Gram matrix.

    For the MSE of DESIGN §2 (mean over samples of the sum over outputs of (f − y)², no ½) the linearised step multiplies
    the residual along an eigenvector of Θ by 1 − 2 lr λ/n, which stays within ±1 for lr ≤ n/λ_max. ([LXS] has ½ of that
    loss, and so twice this rate: 2n/λ_max.) Θ is the empirical NTK of the networks as they are; the smallest rate over
    the members is returned. Above it the linearised loss grows; a finite network may still move to flatter ground.

    Parameters
    ----------
    net : Networks
    X : (n, d) array
        Beyond 2000 rows, 2000 evenly spaced ones stand for all.

    Raises
    ------
    InputError
        If X does not fit the networks.

    Examples
    --------
    >>> import ntkengine as nk
    >>> nets = nk.FCN("relu", w_std=2**0.5).init(width=512, n_inputs=2, seed=0)
    >>> 0.1 < nk.predict.max_learning_rate(nets, [[1.0, 1.0], [1.0, -1.0]]) < 1.0
    True
    """
    from scipy.linalg import eigh

    x = check_inputs(X, net.n_inputs)
    if x.shape[0] > _MAX_ROWS:
        x = x[np.linspace(0, x.shape[0] - 1, _MAX_ROWS).round().astype(int)]
    n = x.shape[0]
    rate = np.inf
    for kernel in net.empirical_ntk(x):
        top = float(eigh(kernel.astype(np.float64), eigvals_only=True, subset_by_index=[n - 1, n - 1])[0])
        if top > 0:
            rate = min(rate, n / top)
    return float(rate)

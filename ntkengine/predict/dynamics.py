"""Gradient descent seen through the NTK: outputs move as f_{t+1} − y = (1 − (2 lr/n) Θ)(f_t − y) near initialisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ntkengine.finite.empirical import top_eigenvalue
from ntkengine.finite.network import check_inputs

if TYPE_CHECKING:
    from ntkengine.finite.network import Networks

__all__ = ["max_learning_rate"]

#: Rows used at most.
_MAX_ROWS = 2000


def max_learning_rate(net: Networks, X: ArrayLike) -> float:
    """Largest stable learning rate of full-batch gradient descent on ``X``: n/λ_max of the networks' NTK on it.

    For the mean over samples of the sum over outputs of (f − y)², without ½, the linearised step multiplies the residual
    along an eigenvector of the (nm × nm) NTK by 1 − 2 lr λ/n, which stays within ±1 for lr ≤ n/λ_max. (Lee et al. 2019 have ½
    of that loss, and so twice this rate.) The NTK is the empirical one of the networks as they are, and the smallest rate
    over the members is returned. Above it the linearised loss grows; a finite network may still move to flatter ground.

    Parameters
    ----------
    net : Networks
    X : (n, d) array
        Beyond 2000 rows, a random sample of 2000 (always the same) stands for all.

    Returns
    -------
    float
        ``inf`` if no parameter moves any output.

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
    x = check_inputs(X, net.n_inputs)
    if x.shape[0] > _MAX_ROWS:
        x = np.random.default_rng(0).permutation(x)[:_MAX_ROWS]
    top = float(top_eigenvalue(net, x).max())
    return x.shape[0] / top if top > 0 else np.inf

"""Source of piecewise cubics: nodes with values and slopes, the cubic between two neighbours, straight lines outside.

Where two nodes coincide φ has a kink, and belongs to the piece on the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ntkengine.activations.base import Activation
from ntkengine.activations.tabulated import nodes as table_nodes
from ntkengine.design._printers import Language, array_text

__all__ = ["Pieces", "pieces_of", "pieces_source"]

Array = NDArray[np.float64]

#: Families with the tile of tables, and how many numbers their parameters begin with: count, density, start and another.
TABLES, HEADER = ("spline", "tabulated"), 4


@dataclass(frozen=True)
class Pieces:
    """Nodes in ascending order, and φ and φ' there, each of shape (nodes,)."""

    nodes: Array
    values: Array
    slopes: Array


def pieces_of(phi: Activation) -> Pieces | None:
    """The pieces of an activation whose tile is that of tables (:mod:`ntkengine.activations.tabulated`), else None."""
    if phi.name not in TABLES:
        return None
    packed = np.asarray(phi.family.packed(phi.values))
    count, density, start = (int(x) for x in packed[:3])
    right, left = packed[HEADER:].reshape(2, count, 4)
    at = table_nodes(count, density, start)
    # Left of 0 the rows go outwards: ascending is the other way round, and the slopes change their sign.
    kink = abs(left[0, 1] + right[0, 1]) > 1e-12 * (1 + abs(right[0, 1]))
    inner = slice(None, None if kink else 0, -1)
    return Pieces(
        np.concatenate([0.0 - at[inner], at]),
        np.concatenate([left[inner, 0], right[:, 0]]),
        np.concatenate([-left[inner, 1], right[:, 1]]),
    )


_TABLE = '''def pieces():
    """Per piece, those to the left and to the right of all nodes included: where it begins and its c_0, ..., c_3."""
    rows = [(NODES[0], VALUES[0], SLOPES[0], 0.0, 0.0)]
    for k in range(len(NODES)):
        c2 = c3 = 0.0
        if k + 1 < len(NODES) and NODES[k + 1] > NODES[k]:
            h, low, high = NODES[k + 1] - NODES[k], SLOPES[k], SLOPES[k + 1]
            rise = (VALUES[k + 1] - VALUES[k]) / h
            c2, c3 = (3.0 * rise - 2.0 * low - high) / h, (low + high - 2.0 * rise) / h**2
        rows.append((NODES[k], VALUES[k], SLOPES[k], c2, c3))
    return rows'''

_PLACES = {
    "numpy": '''PIECES = np.array(pieces())
NODES = np.array(NODES)


def piece(z):
    """Distance of z from the beginning of its piece, and c_0, ..., c_3 there."""
    begin, *c = np.moveaxis(PIECES[np.searchsorted(NODES, z, side="right")], -1, 0)
    return z - begin, c''',
    "numba": '''PIECES = np.array(pieces())
NODES = np.array(NODES)


@numba.njit
def piece(z):
    """Distance of z from the beginning of its piece, and c_0, ..., c_3 there."""
    row = PIECES[np.searchsorted(NODES, z, side="right")]
    return z - row[0], row[1:]''',
    "torch": '''PIECES = pieces()


@functools.cache
def tables(dtype, device):
    """Nodes and pieces as tensors."""
    return [torch.tensor(rows, dtype=dtype, device=device) for rows in (NODES, PIECES)]


def piece(z):
    """Distance of z from the beginning of its piece, and c_0, ..., c_3 there."""
    nodes, rows = tables(z.dtype, z.device)
    begin, *c = rows[torch.searchsorted(nodes, z.detach().contiguous(), right=True)].unbind(-1)
    return z - begin, c''',
    "jax": '''PIECES = np.array(pieces())


def piece(z):
    """Distance of z from the beginning of its piece, and c_0, ..., c_3 there."""
    place = jnp.searchsorted(jnp.asarray(NODES, z.dtype), z, side="right")
    begin, *c = jnp.moveaxis(jnp.asarray(PIECES, z.dtype)[place], -1, 0)
    return z - begin, c''',
}


def pieces_source(pieces: Pieces, language: Language) -> tuple[str, list[str], list[str]]:
    """What comes before φ and φ', and the lines of the two."""
    note = (
        "# φ is the cubic with these values and slopes between any two nodes, and a straight line outside.\n"
        "# Where two nodes coincide φ has a kink and goes on with the second."
    )
    data = [
        f"{name} = {array_text(row)}"
        for name, row in (("NODES", pieces.nodes), ("VALUES", pieces.values), ("SLOPES", pieces.slopes))
    ]
    before = "\n".join([note, *data]) + f"\n\n\n{_TABLE}\n\n\n{_PLACES[language.name]}"
    start = [language.prelude] if language.prelude else []
    start.append("t, c = piece(z)")
    return (
        before,
        [*start, "return c[0] + t * (c[1] + t * (c[2] + t * c[3]))"],
        [*start, "return c[1] + t * (2.0 * c[2] + t * (3.0 * c[3]))"],
    )

"""Plain second ways to the built-in tables, the split and the standardisation."""

import itertools
import math

import numpy as np

WINS = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]


def balance_scale():
    """{(left weight, left distance, right weight, right distance): class} over the full grid."""
    table = {}
    for a, b, c, d in itertools.product(range(1, 6), repeat=4):
        table[a, b, c, d] = "B" if a * b == c * d else ("L" if a * b > c * d else "R")
    return table


def tic_tac_toe():
    """{board: x has won}, by a condition on all 3^9 boards instead of by playing.

    A board ends a game that x began exactly when its counts fit the side that moved last, somebody has won or
    it is full, and taking back some last move leaves a board without a winner.
    """

    def wins(board, side):
        return any(all(board[i] == side for i in line) for line in WINS)

    table = {}
    for board in itertools.product((1, -1, 0), repeat=9):
        ahead = board.count(1) - board.count(-1)
        if ahead not in (0, 1):
            continue
        last = 1 if ahead == 1 else -1
        x, o = wins(board, 1), wins(board, -1)
        if (x and o) or (x and last != 1) or (o and last != -1) or not (x or o or 0 not in board):
            continue
        before = [(*board[:i], 0, *board[i + 1 :]) for i in range(9) if board[i] == last]
        if any(not wins(b, 1) and not wins(b, -1) for b in before):
            table[board] = x
    return table


def split(n, seed, n_train):
    """Rows in the order of their 64-bit keys, ties by row."""
    keys = [int(k) for k in np.random.PCG64(np.random.SeedSequence(seed)).random_raw(n)]
    order = sorted(range(n), key=lambda i: (keys[i], i))
    return order[:n_train], order[n_train:]


def standardize(train, rows):
    """(x − mean)/std column by column with exact sums; 0 where the training column is constant."""
    out = []
    for row in rows:
        cells = []
        for j, x in enumerate(row):
            column = [r[j] for r in train]
            mean = math.fsum(column) / len(column)
            std = math.sqrt(math.fsum((v - mean) ** 2 for v in column) / len(column))
            cells.append(0.0 if len(set(column)) == 1 else (x - mean) / std)
        out.append(cells)
    return np.array(out)

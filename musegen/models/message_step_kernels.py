"""The compiled loops (Numba) of `MessageStep` around its products, float32 on a CPU.

For one piece, starting an operation of torch takes longer than its arithmetic. Arrays are
contiguous; what is absent has no columns. Numba's cache on disk checks only this file: when `exp`
changes, so must this file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from musegen.energy.kernels import exp
from musegen.models.layers.beat_clock import SIXTEENTHS
from musegen.runtime.jit import can_cache

SETTINGS: Any = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
    "cache": can_cache(lambda: None),
}
ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)


@njit(**SETTINGS)
def rows_of(x_BF, clock_BC, label_BL, match_BM, ticks, first_K):
    """The rows of the table that each message adds up, (B, K)."""
    row_BK = np.empty((len(x_BF), len(first_K)), np.int64)
    for b in range(len(x_BF)):
        k = 0
        for f in range(x_BF.shape[1]):
            row_BK[b, k] = x_BF[b, f]
            k += 1
        if clock_BC.shape[1]:  # as in `BeatClock.places`
            place, bar, sixteenth = clock_BC[b, 0], clock_BC[b, 1], ticks // 4
            row_BK[b, k] = place % ticks
            row_BK[b, k + 1] = min(place // sixteenth, SIXTEENTHS - 1)
            row_BK[b, k + 2] = min(bar // sixteenth, SIXTEENTHS)
            k += 3
        for part_BX in (label_BL, match_BM):
            for i in range(part_BX.shape[1]):
                row_BK[b, k] = part_BX[b, i]
                k += 1
        for k in range(len(first_K)):
            row_BK[b, k] += first_K[k]
    return row_BK


@njit(**SETTINGS)
def add_rows(row_BK, table_RG, gates_BG):
    """gates ← the sum of the rows of the table."""
    for b in range(len(row_BK)):
        gates_G, row_G = gates_BG[b], table_RG[row_BK[b, 0]]
        for g in range(len(gates_G)):
            gates_G[g] = row_G[g]
        for k in range(1, row_BK.shape[1]):
            row_G = table_RG[row_BK[b, k]]
            for g in range(len(gates_G)):
                gates_G[g] += row_G[g]


@njit(**SETTINGS)
def read_notes(x_BF, before_BP, W_QA, h_BH, age_BP, active_BQ, input_BI):
    """The ages and the features of the sounding notes (`musegen.models.layers.active_notes`), and
    the input of the first layer: features · W beside h."""
    notes, width = before_BP.shape[1], W_QA.shape[1]
    for b in range(len(x_BF)):
        input_I = input_BI[b]
        for i in range(len(input_I)):
            input_I[i] = ZERO if i < width else h_BH[b, i - width]
        for p in range(notes):
            age = before_BP[b, p]
            if p == x_BF[b, 0]:
                age = ONE if x_BF[b, 1] > 0 else ZERO
            elif age > ZERO:
                age += ONE
            age_BP[b, p] = age
            active_BQ[b, p], active_BQ[b, notes + p] = ZERO, ZERO
            if age > ZERO:
                log_age = np.log(age)
                active_BQ[b, p], active_BQ[b, notes + p] = ONE, log_age
                for a in range(width):
                    input_I[a] += W_QA[p, a] + log_age * W_QA[notes + p, a]


@njit(**SETTINGS)
def cell(gates_BG, before_BH, c_BH, h_BH):
    """The next c and h from the gates: input, forget, output, new."""
    hidden = c_BH.shape[1]
    for b in range(len(gates_BG)):
        i_H, f_H = gates_BG[b, :hidden], gates_BG[b, hidden : 2 * hidden]
        o_H, new_H = gates_BG[b, 2 * hidden : 3 * hidden], gates_BG[b, 3 * hidden :]
        for j in range(hidden):
            c = sigmoid(f_H[j]) * before_BH[b, j] + sigmoid(i_H[j]) * tanh(new_H[j])
            c_BH[b, j] = c
            h_BH[b, j] = sigmoid(o_H[j]) * tanh(c)


@njit(inline="always", **SETTINGS)
def sigmoid(x):
    """1 / (1 + e⁻ˣ)."""
    return ONE / (ONE + exp(-x))


@njit(inline="always", **SETTINGS)
def tanh(x):
    """2 σ(2x) − 1."""
    return TWO / (ONE + exp(-TWO * x)) - ONE

"""The compiled loops (Numba) of drawing classes: temperature, top-k, top-p, repeats and the key.

For one sequence, starting an operation of torch takes longer than the loop itself, and drawing a
class takes ten of them.

Logits are float32 and contiguous; they are overwritten. Numba's cache on disk checks only this
file: when `exp` changes, so must this file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from musegen.energy.kernels import exp
from musegen.runtime.jit import can_cache

SETTINGS: Any = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc"},
    "cache": can_cache(lambda: None),
}
ZERO, ONE = np.float32(0), np.float32(1)
INFINITY = 0x7F800000
"""As the bits of a float32."""


@njit(**SETTINGS)
def draw_rows(z_BV, u_BU, temperature, top_k, top_p, class_B):
    """Draw a class of each row."""
    weight_V = np.empty_like(z_BV[0])
    for b in range(len(z_BV)):
        class_B[b] = draw(z_BV[b], u_BU[b, 0], temperature, top_k, top_p, weight_V)


@njit(**SETTINGS)
def draw_repeats(
    z_BV, u_BU, temperature, top_k, top_p, field, match_BM, gain_BF, least_level, follows_B, class_B
):
    """`draw_rows` of one field of messages with a match (`musegen.models.message_picker`).

    `follows_B`: whether the fields before are those of the match; for the first field it is set.
    """
    weight_V = np.empty_like(z_BV[0])
    for b in range(len(z_BV)):
        z_V, level, match, drawn = z_BV[b], match_BM[b, 0], match_BM[b, 1 + field], -1
        if field == 0:
            follows_B[b] = level > 0
        if follows_B[b]:
            z_V[match] += gain_BF[b, field]
            if level >= least_level and temperature > 0:
                total = weigh(z_V, ONE, weight_V)
                if u_BU[b, 1] * total < weight_V[match]:
                    drawn = match
                else:
                    z_V[match] = -np.inf
        if drawn < 0:
            drawn = draw(z_V, u_BU[b, 0], temperature, top_k, top_p, weight_V)
        follows_B[b] &= drawn == match
        class_B[b] = drawn


@njit(**SETTINGS)
def draw(z_V, u, temperature, top_k, top_p, weight_V):
    """A class of one row, by the inverse of the cumulative distribution at u in [0, 1)."""
    if temperature == 0:
        return np.argmax(z_V)
    total = weigh(z_V, np.float32(1 / temperature), weight_V)
    if 0 < top_k < len(z_V):
        total = keep_largest(weight_V, np.float32(top_k), True)
    if top_p < 1:
        total = keep_largest(weight_V, np.float32(top_p * total), False)
    mass, last, threshold = 0.0, 0, u * total
    for v in range(len(weight_V)):
        if weight_V[v] > ZERO:
            mass += weight_V[v]
            last = v
            if mass > threshold:
                break
    return last  # after rounding, the sum can miss `total` by a little


@njit(**SETTINGS)
def weigh(z_V, factor, weight_V):
    """Weights proportional to exp(factor · z), and their sum."""
    highest = z_V[0]
    for v in range(len(z_V)):
        highest = max(highest, z_V[v])
    total = ZERO
    for v in range(len(z_V)):
        weight_V[v] = exp(factor * (z_V[v] - highest)) if z_V[v] > -np.inf else ZERO
        total += weight_V[v]
    return np.float64(total)


@njit(**SETTINGS)
def keep_largest(weight_V, needed, counted):
    """Set all but the largest weights to 0, and return the sum of the others.

    They are the fewest that have the sum `needed` together, or that are `needed`. Of equal ones,
    the first are kept.
    """
    # The bits of two positive numbers have the order of the numbers. Halving the interval of the
    # least weight that is kept takes less time than sorting.
    low, high, between = 0, INFINITY, INFINITY
    while between > low:  # `between` is the greatest weight below `high`
        middle = low + (high - low + 1) // 2
        found, least, greatest = amount(weight_V, middle, counted)
        if found >= needed:
            low = least
        else:
            high, between = middle, greatest
    found, _, _ = amount(weight_V, low + 1, counted)
    missing = np.float64(needed - found)
    bits_V, total = weight_V.view(np.int32), 0.0
    for v in range(len(weight_V)):
        if bits_V[v] == low and missing > 0:
            missing -= 1.0 if counted else weight_V[v]
        elif bits_V[v] <= low:
            weight_V[v] = ZERO
        total += weight_V[v]
    return total


@njit(**SETTINGS)
def amount(weight_V, limit, counted):
    """The number, or the sum, of the weights whose bits are `limit` or more, the least bits of
    these, and the greatest bits of the others."""
    bits_V, total, least, greatest = weight_V.view(np.int32), ZERO, np.int32(INFINITY), np.int32(0)
    limit = np.int32(limit)
    for v in range(len(weight_V)):
        reached = bits_V[v] >= limit
        least = min(least, bits_V[v] if reached else np.int32(INFINITY))
        greatest = max(greatest, np.int32(0) if reached else bits_V[v])
        total += (ONE if counted else weight_V[v]) if reached else ZERO
    return total, least, greatest


@njit(**SETTINGS)
def read_onsets(note_B, starts_B, decay, log_q_CK, class_P, log_prob_BK, silent_BP):
    """The next message of each piece (`musegen.models.layers.key_weights`)."""
    for b in range(len(note_B)):
        silent_BP[b, note_B[b]] = not starts_B[b]
        if starts_B[b]:
            for k in range(log_q_CK.shape[1]):
                log_q = log_q_CK[class_P[note_B[b]], k]
                log_prob_BK[b, k] = decay * log_prob_BK[b, k] + log_q


@njit(**SETTINGS)
def add_key(z_BP, log_prob_BK, silent_BP, q_CK, class_P, strength):
    """Add the logarithm of the weights of the key to the logits of the notes that may start.

    So that they are as probable together as before, their weights have the mean 1.
    """
    weight_P, by_class_C = np.empty_like(z_BP[0]), np.empty(len(q_CK))
    for b in range(len(z_BP)):
        z_P, prob_K = z_BP[b], log_prob_BK[b]
        highest, total = prob_K[0], 0.0
        for k in range(len(prob_K)):
            highest = max(highest, prob_K[k])
        by_class_C[:] = 0
        for k in range(len(prob_K)):
            prob = np.exp(prob_K[k] - highest)
            total += prob
            for c in range(len(by_class_C)):
                by_class_C[c] += prob * q_CK[c, k]
        for c in range(len(by_class_C)):
            by_class_C[c] = (by_class_C[c] / total) ** strength
        weigh(z_P, ONE, weight_P)
        before, after = 0.0, 0.0
        for p in range(len(z_P)):
            if silent_BP[b, p]:
                before += weight_P[p]
                after += weight_P[p] * by_class_C[class_P[p]]
        if after == 0:  # none may start
            continue
        for c in range(len(by_class_C)):
            by_class_C[c] = np.log(by_class_C[c] * (before / after))
        for p in range(len(z_P)):
            if silent_BP[b, p]:
                z_P[p] += by_class_C[class_P[p]]

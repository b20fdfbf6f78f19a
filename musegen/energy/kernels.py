"""Compiled CPU kernels (Numba) for Gibbs chains, the contrastive loss and annealing.

They skip units that are off. A frame of music has one note in twenty on, a digit one pixel in
seven; the product with W is then the sum of a few rows of W, a fraction of the work of a dense
product. A chain runs all its steps in one loop whose state, random numbers included, stays in the
nearest cache, without the launches of a dozen kernels per step.

Random numbers are those of Philox4×32-10 (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011), a function of a key and of a counter, here (block of units, row, step). The
samples therefore depend neither on the number of threads nor on which thread computes a row.

Everything is float32 on a CPU, except long sums, and contiguous, except x of `product`. Biases are
(D,), the same for all rows, or (N, D), different for each row. Functions are compiled at their
first use, which takes seconds, and kept in Numba's cache on disk. That cache checks only the file
of a function, not the files of functions that it calls; therefore all of them are in this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numba import config, get_num_threads, njit, prange, set_num_threads
from torch import Generator, Tensor

from musegen.runtime.jit import can_cache

# Torch's OpenMP threads spin for milliseconds while they wait for work, and would keep the threads
# of another pool from their cores. With OpenMP, Numba uses the same pool.
config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]  # type: ignore[attr-defined]
MIN_PARALLEL_SIZE = 32_768
"""With fewer numbers to process, a second thread does not help."""
TILE_SIZE = 2**16
"""Numbers of W (or of another matrix whose rows are added up) that stay in the cache while the rows
of x use them in turn: 256 KiB."""
CHAINS_PER_TILE = 16
"""Chains that take a step together, so that a tile is read once for all of them."""
STEPS_PER_CALL = 50
"""AIS steps between two updates of the progress display."""


SETTINGS: Any = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
    "cache": can_cache(lambda: None),
}
ZERO, ONE = np.float32(0), np.float32(1)

# --- Random bits ------------------------------------------------------------------------------

SHIFT = np.uint64(32)
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
ROUNDS = 10
DROPPED_BITS, LAST_BIT, UNIFORM_STEP = np.uint32(8), np.uint32(1), np.float32(2.0**-24)


@njit(inline="always", **SETTINGS)
def philox(c0, c1, c2, c3, k0, k1):
    """Four random words from a counter of four words and a key of two."""
    for _ in range(ROUNDS):
        p0, p1 = np.uint64(c0) * MULTIPLIERS[0], np.uint64(c2) * MULTIPLIERS[1]
        high0, high1 = np.uint32(p0 >> SHIFT), np.uint32(p1 >> SHIFT)
        c0, c2 = np.uint32(high1 ^ c1 ^ k0), np.uint32(high0 ^ c3 ^ k1)
        c1, c3 = np.uint32(p1), np.uint32(p0)
        k0, k1 = np.uint32(k0 + WEYL[0]), np.uint32(k1 + WEYL[1])
    return c0, c1, c2, c3


@njit(inline="always", **SETTINGS)
def uniform(word):
    """A random word as a number in (0, 1), an odd multiple of 2⁻²⁴: the middle of one of 2²³
    equal intervals. Float32 has no number in the middle of the last of 2²⁴ intervals."""
    return np.float32(np.int32((word >> DROPPED_BITS) | LAST_BIT)) * UNIFORM_STEP


# Coefficients of exp on [−ln 2 / 2, ln 2 / 2] from the Cephes library (S. Moshier).
LOG2_E = np.float32(1.44269504)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
P0, P1, P2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
P3, P4, P5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
HALF, EXP_RANGE = np.float32(0.5), np.float32(87)
BIAS, MANTISSA = np.int32(127), np.int32(23)


@njit(inline="always", **SETTINGS)
def exp(x):
    """eˣ, with x clamped to [−87, 87]; without branches, so that loops are vectorised."""
    x = min(max(x, -EXP_RANGE), EXP_RANGE)
    n = np.floor(x * LOG2_E + HALF)
    f = x - n * LN2_HIGH - n * LN2_LOW
    p = ((((P0 * f + P1) * f + P2) * f + P3) * f + P4) * f + P5
    return (p * f * f + f + ONE) * np.int32((np.int32(n) + BIAS) << MANTISSA).view(np.float32)


# --- One row ----------------------------------------------------------------------------------


@njit(**SETTINGS)
def draw_row(a_H, on_H, u, row, step, key):
    """on ← [u < σ(a)]; `u` is a buffer for H + 3 numbers."""
    k0, k1 = np.uint32(key), np.uint32(key >> 32)
    blocks = (len(a_H) + 3) // 4
    for b in range(blocks):
        words = philox(np.uint32(b), np.uint32(row), np.uint32(step), np.uint32(0), k0, k1)
        u[b], u[blocks + b] = uniform(words[0]), uniform(words[1])
        u[2 * blocks + b], u[3 * blocks + b] = uniform(words[2]), uniform(words[3])
    for i in range(len(a_H)):
        # u must not be 0: then a unit with σ(a) = 10⁻³⁰ would be on as often as u is 0. It must not
        # be 1 either: then a unit whose σ(a) is rounded to 1 would be off.
        on_H[i] = ONE if u[i] * (ONE + exp(-a_H[i])) < ONE else ZERO


@njit(**SETTINGS)
def nonzero_indices(x_I, which):
    """How many numbers are not 0; writes their indices to the buffer `which` of I + 1."""
    count = 0
    for i in range(len(x_I)):
        which[count] = i
        count += x_I[i] != ZERO
    return count


@njit(**SETTINGS)
def add_rows(x_I, W_IO, out_O, which, count):
    """out ← out + x W, using only the `count` rows of W whose indices are in `which`."""
    width = len(out_O)
    done = 0
    while (
        done + 8 <= count
    ):  # eight rows at a time, so that `out` is read and written once for them
        i0, i1, i2, i3 = which[done], which[done + 1], which[done + 2], which[done + 3]
        i4, i5, i6, i7 = which[done + 4], which[done + 5], which[done + 6], which[done + 7]
        x0, x1, x2, x3, x4, x5, x6, x7 = (
            x_I[i0], x_I[i1], x_I[i2], x_I[i3], x_I[i4], x_I[i5], x_I[i6], x_I[i7],
        )  # fmt: skip
        w0, w1, w2, w3, w4, w5, w6, w7 = (
            W_IO[i0], W_IO[i1], W_IO[i2], W_IO[i3], W_IO[i4], W_IO[i5], W_IO[i6], W_IO[i7],
        )  # fmt: skip
        for o in range(width):
            low = (x0 * w0[o] + x1 * w1[o]) + (x2 * w2[o] + x3 * w3[o])
            high = (x4 * w4[o] + x5 * w5[o]) + (x6 * w6[o] + x7 * w7[o])
            out_O[o] += low + high
        done += 8
    while done < count:
        x0, w0 = x_I[which[done]], W_IO[which[done]]
        for o in range(width):
            out_O[o] += x0 * w0[o]
        done += 1


@njit(**SETTINGS)
def product_row(x_I, W_IO, b_O, out_O, which):
    """out ← b + x W, using the rows of W where x is not 0; `which` is a buffer of I + 1."""
    for o in range(len(out_O)):
        out_O[o] = b_O[o]
    add_rows(x_I, W_IO, out_O, which, nonzero_indices(x_I, which))


@njit(**SETTINGS)
def softplus_increment(base_H, delta_H, before, beta, ratio_H, linear_H):
    """Σ softplus(base + beta · delta) − softplus(base + before · delta), float64.

    softplus(x) = max(x, 0) + log(1 + e^−|x|). One logarithm of a product of ratios between ½ and 2
    replaces two logarithms for every unit.
    """
    for i in range(len(base_H)):
        old, new = base_H[i] + before * delta_H[i], base_H[i] + beta * delta_H[i]
        ratio_H[i] = (ONE + exp(-abs(new))) / (ONE + exp(-abs(old)))
        linear_H[i] = max(new, ZERO) - max(old, ZERO)
    return sum_and_log_product(linear_H, ratio_H)


@njit(**{**SETTINGS, "fastmath": {"contract", "reassoc"}})
def sum_and_log_product(linear_H, ratio_H):
    """Σ linear + log Π ratio, float64."""
    total = 0.0
    for i in range(len(linear_H)):
        total += np.float64(linear_H[i])
    for start in range(0, len(ratio_H), 512):  # 2⁵¹² is within the range of float64
        part_P, product = ratio_H[start : start + 512], 1.0
        for i in range(len(part_P)):
            product *= np.float64(part_P[i])
        total += np.log(product)
    return total


@njit(**{**SETTINGS, "fastmath": {"contract", "reassoc"}})
def dot(x_D, y_D):
    """x · y, float64."""
    total = 0.0
    for i in range(len(x_D)):
        total += np.float64(x_D[i]) * np.float64(y_D[i])
    return total


# --- Rows first … last − 1 --------------------------------------------------------------------


@njit(**SETTINGS)
def product_rows(x_NI, W_IO, b_NO, out_NO, first, last, which):
    """out ← b + x W, tile by tile where W is larger than a tile."""
    height = max(1, TILE_SIZE // W_IO.shape[1])
    for n in range(first, last):
        b_O = b_NO[n if len(b_NO) > 1 else 0]
        if height >= len(W_IO):
            product_row(x_NI[n], W_IO, b_O, out_NO[n], which)
        else:
            product_row(x_NI[n, :height], W_IO[:height], b_O, out_NO[n], which)
    for i in range(height, len(W_IO), height):
        tile_IO = W_IO[i : i + height]
        for n in range(first, last):
            x_I = x_NI[n, i : i + height]
            add_rows(x_I, tile_IO, out_NO[n], which, nonzero_indices(x_I, which))


@njit(**SETTINGS)
def draw_rows(a_NH, on_NH, u, first, last, step, key):
    """on ~ Bernoulli(σ(a))."""
    for n in range(first, last):
        draw_row(a_NH[n], on_NH[n], u, n, step, key)


# --- One thread's part of the work ------------------------------------------------------------


@njit(**SETTINGS)
def product_part(x_NI, W_IO, b_NO, out_NO, part, parts):
    first, last = part * len(x_NI) // parts, (part + 1) * len(x_NI) // parts
    product_rows(x_NI, W_IO, b_NO, out_NO, first, last, np.empty(len(W_IO) + 1, np.int64))


@njit(**SETTINGS)
def draw_part(a_NH, on_NH, key, part, parts):
    first, last = part * len(a_NH) // parts, (part + 1) * len(a_NH) // parts
    draw_rows(a_NH, on_NH, np.empty(a_NH.shape[1] + 3, np.float32), first, last, 0, key)


@njit(**SETTINGS)
def transpose_part(W_DH, W_HD, part, parts):
    for d in range(part * len(W_DH) // parts, (part + 1) * len(W_DH) // parts):
        for i in range(W_DH.shape[1]):
            W_HD[i, d] = W_DH[d, i]


@njit(**SETTINGS)
def softplus_part(a_NH, weight, total_N, p_NH, part, parts):
    """total_N ← w Σ_h softplus(a) and p_NH ← w σ(a), for one part of the rows."""
    ratio_H, linear_H = np.empty(a_NH.shape[1], np.float32), np.empty(a_NH.shape[1], np.float32)
    for n in range(part * len(a_NH) // parts, (part + 1) * len(a_NH) // parts):
        a_H, p_H = a_NH[n], p_NH[n]
        for i in range(len(a_H)):
            e = exp(-abs(a_H[i]))
            linear_H[i], ratio_H[i] = max(a_H[i], ZERO), ONE + e
            p_H[i] = weight * (ONE if a_H[i] >= ZERO else e) / (ONE + e)
        total_N[n] = weight * sum_and_log_product(linear_H, ratio_H)


@njit(**SETTINGS)
def weight_gradient_part(x_BD, v_CD, p_NH, grad_W, part, parts):
    """∂W ← xᵀ p_data + vᵀ p_ends, for one part of the visible units."""
    B, (visible, hidden) = len(x_BD), grad_W.shape
    height = max(1, TILE_SIZE // hidden)
    v_T, which = np.empty(height, np.float32), np.empty(height + 1, np.int64)
    start, end = part * visible // parts, (part + 1) * visible // parts
    grad_W[start:end] = ZERO
    for first in range(0, len(p_NH), height):
        tile_TH = p_NH[first : first + height]
        for d in range(start, end):
            for t in range(len(tile_TH)):
                n = first + t
                v_T[t] = x_BD[n, d] if n < B else v_CD[n - B, d]
            add_rows(v_T, tile_TH, grad_W[d], which, nonzero_indices(v_T[: len(tile_TH)], which))


@njit(**SETTINGS)
def sum_part(x_BD, w_x, y_CD, w_y, out, part, parts):
    """out ← w_x x + w_y y, row by row or summed over rows, for one part of the columns."""
    first, last = part * out.shape[1] // parts, (part + 1) * out.shape[1] // parts
    if len(out) != 1:
        for n in range(len(out)):
            for d in range(first, last):
                out[n, d] = w_x * x_BD[n, d] + w_y * y_CD[n, d]
        return
    total_D = np.zeros(last - first)  # float64: the terms nearly cancel
    for rows, weight in ((x_BD, w_x), (y_CD, w_y)):
        for n in range(len(rows)):
            for d in range(first, last):
                total_D[d - first] += weight * rows[n, d]
    for d in range(first, last):
        out[0, d] = total_D[d - first]


@njit(**SETTINGS)
def gradients_part(x_BD, v_CD, p_NH, gradients, part, parts):
    """∂W, ∂b and ∂c of the contrastive loss, for one part of their columns."""
    B, (grad_W, grad_v, grad_h) = len(x_BD), gradients
    weight_gradient_part(x_BD, v_CD, p_NH, grad_W, part, parts)
    sum_part(x_BD, np.float32(-1 / B), v_CD, np.float32(1 / len(v_CD)), grad_v, part, parts)
    sum_part(p_NH[:B], ONE, p_NH[B:], ONE, grad_h, part, parts)


@njit(**SETTINGS)
def hidden_part(a_BH, end_CH, total_N, p_NH, part, parts):
    """`softplus_part` of data and chain ends, weighted by −1/B and 1/C."""
    B = len(a_BH)
    softplus_part(a_BH, np.float32(-1 / B), total_N[:B], p_NH[:B], part, parts)
    softplus_part(end_CH, np.float32(1 / len(end_CH)), total_N[B:], p_NH[B:], part, parts)


@njit(**SETTINGS)
def contrastive_value(total_N, grad_v, b_v, value):
    """value ← mean F(data) − mean F(chain ends), from the parts computed before."""
    total = 0.0
    for n in range(len(total_N)):
        total += total_N[n]
    for n in range(len(b_v)):
        total += dot(grad_v[n], b_v[n])
    value[()] = total


@njit(**SETTINGS)
def contrastive_part(data, ends, b_v, total_N, p_NH, gradients, value, part, parts):
    """The whole loss by one thread, in this order: the gradients need every row of p."""
    hidden_part(data[1], ends[1], total_N, p_NH, part, parts)
    gradients_part(data[0], ends[0], p_NH, gradients, part, parts)
    contrastive_value(total_N, gradients[1], b_v, value)


@njit(**SETTINGS)
def gibbs_part(k, rbms, chains, key, part, parts):
    """k Gibbs steps, for one part of the chains."""
    W_DH, W_HD, b_v, b_h = rbms
    h_BH, logit_BD, v_BD, a_BH = chains
    visible, hidden = W_DH.shape
    which, u = np.empty(visible + hidden, np.int64), np.empty(visible + hidden + 3, np.float32)
    start, end = part * len(h_BH) // parts, (part + 1) * len(h_BH) // parts
    if W_DH.size <= TILE_SIZE:
        for n in range(start, end):
            b_D, b_H = b_v[n if len(b_v) > 1 else 0], b_h[n if len(b_h) > 1 else 0]
            h_H, logit_D, v_D, a_H = h_BH[n], logit_BD[n], v_BD[n], a_BH[n]
            for step in range(k):
                product_row(h_H, W_HD, b_D, logit_D, which)
                draw_row(logit_D, v_D, u, n, 2 * step, key)
                product_row(v_D, W_DH, b_H, a_H, which)
                draw_row(a_H, h_H, u, n, 2 * step + 1, key)
        return
    for first in range(start, end, CHAINS_PER_TILE):
        last = min(first + CHAINS_PER_TILE, end)
        for step in range(k):
            product_rows(h_BH, W_HD, b_v, logit_BD, first, last, which)
            draw_rows(logit_BD, v_BD, u, first, last, 2 * step, key)
            product_rows(v_BD, W_DH, b_h, a_BH, first, last, which)
            draw_rows(a_BH, h_BH, u, first, last, 2 * step + 1, key)


@njit(**SETTINGS)
def anneal_part(betas, first, last, rbms, v_SD, log_w_S, chains_per_rbm, key, part, parts):
    """AIS steps first … last − 1, for one part of the chains."""
    W_DH, W_HD, base_v, base_h, delta_v, delta_h = rbms
    visible, hidden = W_DH.shape
    which, u = np.empty(visible + hidden, np.int64), np.empty(visible + hidden + 3, np.float32)
    a_H, h_H = np.empty(hidden, np.float32), np.empty(hidden, np.float32)
    ratio_H, linear_H = np.empty(hidden, np.float32), np.empty(hidden, np.float32)
    logit_D = np.empty(visible, np.float32)
    for s in range(part * len(v_SD) // parts, (part + 1) * len(v_SD) // parts):
        n, v_D = s // chains_per_rbm, v_SD[s]
        base_D, delta_D = base_v[n if len(base_v) > 1 else 0], delta_v[n if len(delta_v) > 1 else 0]
        base_H, delta_H = base_h[n if len(base_h) > 1 else 0], delta_h[n if len(delta_h) > 1 else 0]
        for step in range(first, last):
            before, beta = np.float32(betas[step]), np.float32(betas[step + 1])
            product_row(v_D, W_DH, delta_H, a_H, which)
            log_w_S[s] += softplus_increment(base_H, a_H, before, beta, ratio_H, linear_H)
            log_w_S[s] += (betas[step + 1] - betas[step]) * dot(v_D, delta_D)
            if step + 2 < len(betas):
                for i in range(hidden):
                    a_H[i] = base_H[i] + beta * a_H[i]
                draw_row(a_H, h_H, u, s, 2 * step, key)
                product_row(h_H, W_HD, delta_D, logit_D, which)
                for i in range(visible):
                    logit_D[i] = base_D[i] + beta * logit_D[i]
                draw_row(logit_D, v_D, u, s, 2 * step + 1, key)


# --- All parts, by several threads ------------------------------------------------------------


@njit(parallel=True, **SETTINGS)
def product_parts(x_NI, W_IO, b_NO, out_NO, parts):
    for part in prange(parts):
        product_part(x_NI, W_IO, b_NO, out_NO, part, parts)


@njit(parallel=True, **SETTINGS)
def draw_parts(a_NH, on_NH, key, parts):
    for part in prange(parts):
        draw_part(a_NH, on_NH, key, part, parts)


@njit(parallel=True, **SETTINGS)
def transpose_parts(W_DH, W_HD, parts):
    for part in prange(parts):
        transpose_part(W_DH, W_HD, part, parts)


@njit(parallel=True, **SETTINGS)
def contrastive_parts(data, ends, b_v, total_N, p_NH, gradients, value, parts):
    for part in prange(parts):
        hidden_part(data[1], ends[1], total_N, p_NH, part, parts)
    # A second loop, because the gradients need every row of p.
    for part in prange(parts):
        gradients_part(data[0], ends[0], p_NH, gradients, part, parts)
    contrastive_value(total_N, gradients[1], b_v, value)


@njit(parallel=True, **SETTINGS)
def gibbs_parts(k, rbms, chains, key, parts):
    for part in prange(parts):
        gibbs_part(k, rbms, chains, key, part, parts)


@njit(parallel=True, **SETTINGS)
def anneal_parts(betas, first, last, rbms, v_SD, log_w_S, chains_per_rbm, key, parts):
    for part in prange(parts):
        anneal_part(betas, first, last, rbms, v_SD, log_w_S, chains_per_rbm, key, part, parts)


@njit(**SETTINGS)
def count_nonzero_fraction(x_NI):
    rows, width = x_NI.shape
    count = 0
    for n in range(rows):
        for i in range(width):
            count += x_NI[n, i] != ZERO
    return count / max(1, rows * width)


# --- Functions for torch tensors --------------------------------------------------------------


def nonzero_fraction(x_NI: Tensor) -> float:
    """The fraction of numbers that are not 0."""
    return count_nonzero_fraction(_array(x_NI if x_NI.is_contiguous() else x_NI.t()))


def product(x_NI: Tensor, W_IO: Tensor, b: Tensor | None) -> Tensor:
    """b + x W; x may be a transposed view."""
    if b is None:
        b = W_IO.new_zeros(W_IO.shape[1])
    out_NO = x_NI.new_empty(len(x_NI), W_IO.shape[1])
    arrays = [_array(t) for t in (x_NI, W_IO, b, out_NO)]
    _call(product_part, product_parts, x_NI.numel() + out_NO.numel(), *arrays)
    return out_NO


def draw(a_NH: Tensor, out_NH: Tensor, generator: Generator | None) -> None:
    """out ~ Bernoulli(σ(a))."""
    arguments = _array(a_NH), _array(out_NH), _key(generator)
    _call(draw_part, draw_parts, a_NH.numel(), *arguments)


def transpose(W_DH: Tensor) -> Tensor:
    """A contiguous copy of Wᵀ."""
    W_HD = W_DH.new_empty(W_DH.shape[1], W_DH.shape[0])
    _call(transpose_part, transpose_parts, W_DH.numel(), _array(W_DH), _array(W_HD))
    return W_HD


def contrastive_loss(
    x_BD: Tensor, a_BH: Tensor, v_CD: Tensor, end_CH: Tensor, b_v: Tensor, with_W: bool
) -> tuple[Tensor, ...]:
    """`musegen.energy.free_energy.ContrastiveLoss` of data x and chain ends v.

    a_BH is c + x W and end_CH is c + v W. Returns the value, ∂W (empty unless `with_W`), ∂b and
    ∂c, and p, with ∂W = [x; v]ᵀ p.
    """
    N, D, H = len(x_BD) + len(v_CD), x_BD.shape[1], a_BH.shape[1]
    new = x_BD.new_empty
    value, grad_W, p_NH = new(()), new(D if with_W else 0, H), new(N, H)
    grad_v, grad_h = (new(*b_v.shape[:-1], width) for width in (D, H))
    x, a, v, end = (_array(t.contiguous()) for t in (x_BD, a_BH, v_CD, end_CH))
    gradients = tuple(_array(t) for t in (grad_W, grad_v, grad_h))
    buffers = np.empty(N), p_NH.numpy()
    arguments = (x, a), (v, end), _array(b_v), *buffers, gradients, value.numpy()
    _call(contrastive_part, contrastive_parts, N * (D + H), *arguments)
    return value, grad_W, grad_v, grad_h, p_NH


def gibbs_steps(
    k: int,
    W_DH: Tensor,
    b_v: Tensor,
    b_h: Tensor,
    h_BH: Tensor,
    logit_BD: Tensor,
    v_BD: Tensor,
    a_BH: Tensor,
    generator: Generator | None,
) -> None:
    """k Gibbs steps h → v → h of every row, in place.

    At the end logit = b + h Wᵀ are the logits that v was drawn from, and a = c + v W those of h.
    """
    W, h, logit, v, a = (_array(t) for t in (W_DH, h_BH, logit_BD, v_BD, a_BH))
    key, numbers = _key(generator), k * (v_BD.numel() + h_BH.numel())
    rbms = W, _array(transpose(W_DH)), _array(b_v), _array(b_h)
    _call(gibbs_part, gibbs_parts, numbers, k, rbms, (h, logit, v, a), key)


def anneal(
    betas: list[float],
    W_DH: Tensor,
    base_v: Tensor,
    base_h: Tensor,
    delta_v: Tensor,
    delta_h: Tensor,
    v_SD: Tensor,
    log_w_S: Tensor,
    generator: Generator | None,
) -> Iterator[int]:
    """Chains v through all β, in place; yields the number of steps done so far.

    At β an RBM has the biases base + β delta and the weights β W. Each step adds the increase of
    log f_β(v) (`musegen.energy.ais`) to log_w, float64. Biases belong to one RBM or to N; the
    chains of an RBM are consecutive rows, the same number for each.
    """
    biases = base_v, base_h, delta_v, delta_h
    rbms = tuple(_array(t) for t in (W_DH, transpose(W_DH), *biases))
    chains_per_rbm = max(1, len(v_SD) // max(map(len, rbms[2:])))
    arguments = rbms, _array(v_SD), log_w_S.numpy(), chains_per_rbm, _key(generator)
    for first in range(0, len(betas) - 1, STEPS_PER_CALL):
        last = min(first + STEPS_PER_CALL, len(betas) - 1)
        numbers = (last - first) * v_SD.numel()
        _call(anneal_part, anneal_parts, numbers, np.array(betas), first, last, *arguments)
        yield last


def _array(x: Tensor) -> np.ndarray:
    """The tensor's memory as an array; a vector of biases as one row."""
    array = (x.detach() if x.requires_grad else x).numpy()
    return array if x.dim() > 1 else array[None]


def _key(generator: Generator | None) -> int:
    """A random key for Philox, 64 bits of torch's generator.

    Two calls, of one process or of two, have the same numbers only if all 64 bits are equal: in
    64 processes with 100,000 updates each, with a probability of 10⁻⁶.
    """
    return int(torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=generator))


def _call(serial: Any, parallel: Any, numbers: int, *arguments: Any) -> None:
    """Call the kernel with as many threads as torch has, or with one where there is little work.

    `numbers` is the amount of work, compared with `MIN_PARALLEL_SIZE`.
    """
    threads = torch.get_num_threads()
    if threads == 1 or numbers < MIN_PARALLEL_SIZE:
        serial(*arguments, 0, 1)
        return
    threads = min(threads, config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if get_num_threads() != threads:
        set_num_threads(threads)
    parallel(*arguments, threads)

"""The compiled loops (Numba) of `musegen.codecs.message_matches`."""

from __future__ import annotations

from typing import Any

from numba import njit

from musegen.codecs.message_matches import LEAST_LAG, LEVELS, LOOP, LOOP_PERIOD, REACH
from musegen.runtime.jit import can_cache

SETTINGS: Any = {"nogil": True, "error_model": "numpy", "cache": can_cache(lambda: None)}


@njit(**SETTINGS)
def read_messages(x_BLF, before, sizes_F, x_BSF, id_BS, match_BLM, place_BL):
    """Write messages to the history from the place `before` on, and find the match after each."""
    rows, steps, fields = x_BLF.shape
    for b in range(rows):
        for i in range(steps):
            t, number = before + i, 0
            for f in range(fields):
                x_BSF[b, t, f] = x_BLF[b, i, f]
                number = number * (sizes_F[f] + 1) + x_BLF[b, i, f]
            id_BS[b, t] = number
            level, place = 0, 0
            if not in_loop(id_BS[b], t):
                level, place = longest_match(id_BS[b], t)
            match_BLM[b, i, 0], place_BL[b, i] = level, place
            for f in range(fields):
                match_BLM[b, i, 1 + f] = x_BSF[b, place, f] if level else sizes_F[f]


@njit(**SETTINGS)
def in_loop(id_S, t):
    """Whether a loop has come to message t."""
    for period in range(1, min(LOOP_PERIOD, t) + 1):
        needed, equal = max(LOOP, 2 * period), 0
        while equal < needed and equal + period <= t:
            if id_S[t - equal] != id_S[t - equal - period]:
                break
            equal += 1
        if equal == needed:
            return True
    return False


@njit(**SETTINGS)
def longest_match(id_S, t):
    """The level of the match after message t, and the place of the message that followed it."""
    best, place = 0, 0
    for s in range(t - LEAST_LAG, max(0, t - REACH) - 1, -1):
        if id_S[s] != id_S[t]:
            continue
        length = 1
        while length < 1 << (LEVELS - 1) and length <= s and id_S[s - length] == id_S[t - length]:
            length += 1
        level = 0
        while level < LEVELS and 1 << level <= length:
            level += 1
        if level > best:
            best, place = level, s + 1
            if best == LEVELS:
                break
    return best, place

"""Streams of random numbers: no two are equal, and every bit of their seed counts."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
import torch
from conftest import ROOT

from musegen.runtime.random_streams import (
    MT_WORDS,
    Stream,
    random_stream,
    seed_default_generators,
    seed_sequence,
    torch_stream,
)


def draws(generator: torch.Generator) -> int:
    """64 bits of a generator: the key of a call of the kernels."""
    return int(torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=generator))


def test_no_two_streams_start_with_the_same_number() -> None:
    keys = [(seed,) for seed in range(3)]  # then with more and more numbers behind, also zeros
    for length in (1, 2, 3):
        keys += [(seed, *key) for seed in (0, 1) for key in product((0, 1, 63), repeat=length)]
    for draw in (
        lambda *key: int(random_stream(*key).integers(2**63)),
        lambda *key: draws(torch_stream(*key)),
    ):
        first = [draw(stream, *key) for stream in Stream for key in keys]
        assert len(set(first)) == len(first) == len(Stream) * (3 + 2 * (3 + 9 + 27))
        assert first[:2] == [draw(Stream.STARTS, *key) for key in keys[:2]]


def test_a_number_that_would_be_two_words_of_the_key_is_refused() -> None:
    with pytest.raises(AssertionError):
        random_stream(Stream.EPOCHS, 1, 2**32)


def test_updates_of_a_hundred_ranks_do_not_overlap() -> None:
    keys = np.empty((100, 50), np.uint64)
    for rank, update in np.ndindex(*keys.shape):
        keys[rank, update] = draws(torch_stream(Stream.UPDATES, 1, rank, update)) % 2**64
    assert len(np.unique(keys)) == keys.size
    # All 64 bits are used: half of the ones in each.
    ones = np.unpackbits(keys.view(np.uint8).reshape(-1, 8), axis=1).mean(0)
    assert np.abs(ones - 0.5).max() < 0.05
    # Ranks that walk one cycle would have the same difference between all successive updates.
    assert len(np.unique(np.diff(keys, axis=1))) == 100 * 49


def test_the_state_of_a_cpu_generator_is_the_words_of_its_stream() -> None:
    # numpy's Mersenne Twister, given the same words, draws the same numbers.
    source = seed_sequence(Stream.UPDATES, 5, 3, 7)
    words = np.random.PCG64(source).random_raw(MT_WORDS // 2).view(np.uint32)
    twister = np.random.MT19937()
    twister.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": MT_WORDS}}
    drawn = torch.empty(2000, dtype=torch.int64)
    drawn.random_(0, 2**20, generator=torch_stream(Stream.UPDATES, 5, 3, 7))
    assert drawn.tolist() == (twister.random_raw(2000) % 2**20).tolist()


def test_the_default_generator_has_the_same_stream_and_keeps_the_seed() -> None:
    with torch.random.fork_rng(devices=[]):
        seed_default_generators(Stream.UPDATES, 2**40 + 1, 3, 7)
        assert torch.initial_seed() == 2**40 + 1
        expected = torch.randn(8, generator=torch_stream(Stream.UPDATES, 2**40 + 1, 3, 7))
        assert torch.equal(torch.randn(8), expected)


def test_all_random_numbers_come_from_these_streams() -> None:
    """No other file makes a generator of its own, except for a fixed order of 5,000 digits."""
    own = re.compile(r"default_rng\(|manual_seed\(|SeedSequence\(|np\.random\.(seed|RandomState)")
    found = {
        str(path.relative_to(ROOT))
        for package in ("musegen", "datamodules")
        for path in (ROOT / package).rglob("*.py")
        if own.search(path.read_text())
    }
    assert found == {"musegen/runtime/random_streams.py", "datamodules/mnist.py"}

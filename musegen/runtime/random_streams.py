"""Streams of random numbers: each is a function of what it is for, a seed and a key.

The numbers come from numpy's `SeedSequence`, which hashes the seed (the entropy) and the key
(domain, epoch, rank …) into 128 bits. The key is a spawn key: it is mixed in behind the seed, word
by word, so that (seed, epoch) and (seed, epoch, 0) are different streams. Two streams with
different arguments are equal with probability 2⁻¹²⁸.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch

MT_WORDS, MT_OFFSET = 624, 24
"""The size of the Mersenne Twister's state, and the byte of torch's saved state where it starts."""


class Stream(IntEnum):
    """What random numbers are drawn for, and the key that follows the seed.

    The values are part of every stream: a new domain gets a new value, and none is used again.
    """

    STARTS = 0
    """Networks that are tried before training: (try)."""
    PRETRAINING = 1
    """Stages before training, with their own order of the data: (stage)."""
    UPDATES = 2
    """Chains, dropout and all other draws of an update: (rank, number of the batch)."""
    EPOCHS = 3
    """The order of the examples of an epoch, and their augmentation: (epoch)."""
    TRAINING_EXAMPLES = 4
    """Binarisation and transposition of a training batch: (epoch, first example)."""
    EVALUATION_EXAMPLES = 5
    """Binarisation of an evaluation batch: (first example)."""
    STRINGS = 6
    """Generated data: (split)."""
    SAMPLING = 7
    """New samples of a model."""
    VALIDATION = 8
    """Chains and choices of a metric in each validation."""
    ASSESSMENT = 9
    """Chains and choices of the metrics at the end."""
    BASELINES = 10
    """Samples of baselines."""
    MUSIC_OVERLAP = 11
    """Which training pieces are compared with the others: (), (1) for excerpts, (2) for hashes."""
    FIXED_POINTS = 12
    """Where the search for fixed points of a network starts."""
    FRAME_KEYS = 13
    """Numbers that stand for the notes of frames where frames are compared."""
    CRITIC = 14
    """The training of a critic: () first weights and dropout, (0, first piece) seeds of generated
    pieces, (1 + epoch) the order and the excerpts of an epoch."""


def seed_sequence(stream: Stream, seed: int, *key: int) -> np.random.SeedSequence:
    """The source of all random numbers of a stream. Numbers of the key are below 2³²."""
    # SeedSequence writes a larger number as two words, which another key could have as well.
    assert all(0 <= k < 2**32 for k in key), key
    return np.random.SeedSequence(seed, spawn_key=(stream, *key))


def random_stream(stream: Stream, seed: int, *key: int) -> np.random.Generator:
    """A new numpy generator of this stream."""
    return np.random.default_rng(seed_sequence(stream, seed, *key))


def torch_stream(
    stream: Stream, seed: int, *key: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A new torch generator of this stream."""
    generator, source = torch.Generator(device), seed_sequence(stream, seed, *key)
    if generator.device.type == "cpu":
        generator.set_state(_cpu_state(source))
        return generator
    return generator.manual_seed(_seed_of_64_bits(source))


def seed_default_generators(
    stream: Stream, seed: int, *key: int, device: torch.device | str = "cpu"
) -> None:
    """Start torch's global generators, of the CPU and of `device`, at this stream.

    `torch.initial_seed()` is `seed` afterwards, from which the next streams are derived.
    """
    source = seed_sequence(stream, seed, *key)
    if torch.device(device).type == "cuda":
        torch.cuda.manual_seed(_seed_of_64_bits(source))
    torch.default_generator.set_state(_cpu_state(source))


def _seed_of_64_bits(source: np.random.SeedSequence) -> int:
    return int(source.generate_state(1, np.uint64)[0])


def _cpu_state(source: np.random.SeedSequence) -> torch.Tensor:
    """The state of a CPU generator, a Mersenne Twister whose 624 words are drawn from `source`.

    `manual_seed` would use only 32 bits of a seed, and the updates of 64 ranks in a long run are
    many enough to get equal ones.
    """
    state = torch.Generator().manual_seed(int(source.entropy)).get_state()  # type: ignore[arg-type]
    # PCG64 takes a quarter of the time of `source.generate_state(624)`.
    words = np.random.PCG64(source).random_raw(MT_WORDS // 2).view(np.uint32)
    # Torch keeps each word of 32 bits in 64.
    state.numpy()[MT_OFFSET : MT_OFFSET + 8 * MT_WORDS].view(np.uint64)[:] = words
    return state

"""Batches of messages: which messages each batch row reads and predicts."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from datamodules import message_rows
from datamodules.message_rows import (
    Augmentation,
    CodedPieces,
    MessageDataset,
    MessageStreamSampler,
    MessageWindowSampler,
    StreamSlice,
)
from datamodules.midi_files import Piece
from musegen.codecs.messages import MESSAGES, SCORE_MESSAGES, MessageCodec

CODEC = MessageCodec(velocity_bins=127)
BEFORE = list(CODEC.spec.sizes)


def pieces(*lengths: int) -> list[Piece]:
    """Message t of piece p has note 30 + p and velocity t, so that a target shows its origin."""
    made = []
    for p, n in enumerate(lengths):
        stream = np.zeros(n, MESSAGES)
        stream["note"], stream["velocity"], stream["time"] = 30 + p, np.arange(n), 0.5
        made.append(Piece(f"{p}", stream))
    return made


def targets(dataset: MessageDataset, batches: list[list[StreamSlice]]) -> list[tuple[int, int]]:
    """(piece, message) of every target that the mask marks, in the order of the batches."""
    found = []
    for slices in batches:
        batch = dataset.__getitems__(slices)
        for note, velocity, _ in batch.x_BLF[:, 1:][batch.mask_BT].tolist():
            found.append((note - 30 + 21, velocity))
    return found


def all_targets(*lengths: int) -> Counter:
    return Counter((p, t) for p, n in enumerate(lengths) for t in range(n))


def test_a_row_reads_the_message_before_its_first_target() -> None:
    dataset = MessageDataset(pieces(10), CODEC, window=3, only_last=False)
    batch = dataset.__getitems__(
        [StreamSlice(0, -1), StreamSlice(0, 4), StreamSlice(0, 8), StreamSlice(-1)]
    )
    assert batch.x_BLF[0, 0].tolist() == BEFORE
    assert batch.x_BLF[0, 1:, 1].tolist() == [0, 1, 2]
    assert batch.x_BLF[1, :, 1].tolist() == [4, 5, 6, 7]
    assert batch.mask_BT.tolist() == [[True] * 3, [True] * 3, [True, False, False], [False] * 3]


def test_only_the_last_position_is_predicted() -> None:
    dataset = MessageDataset(pieces(10), CODEC, window=3, only_last=True)
    batch = dataset.__getitems__([StreamSlice(0, -3), StreamSlice(0, -1), StreamSlice(0, 6)])
    assert batch.mask_BT.tolist() == [[False, False, True]] * 3
    assert batch.x_BLF[0].tolist()[:3] == [BEFORE] * 3
    assert batch.x_BLF[:, 3, 1].tolist() == [0, 2, 9]


def test_transposition_and_tempo_change_what_is_read() -> None:
    dataset = MessageDataset(pieces(4), CODEC, window=3, only_last=False)
    batch = dataset.__getitems__(
        [StreamSlice(0, -1, True, -2, 2.0), StreamSlice(0, -1, True, 3, 1.0)]
    )
    assert batch.x_BLF[:, 1, 0].tolist() == [30 - 2 - 21, 30 + 3 - 21]
    decoded = CODEC.decode(batch.x_BLF[0, 1:].numpy())["time"]
    np.testing.assert_allclose(decoded, 1.0, rtol=0.07)


def test_the_clock_of_a_row_is_the_clock_of_its_messages() -> None:
    codec = MessageCodec(time_unit="beats", velocity_bins=127)
    stream = np.zeros(7, SCORE_MESSAGES)
    stream["note"], stream["time"], stream["bar"] = 60, 0.5, 1.5
    dataset = MessageDataset([Piece("waltz", stream)], codec, window=3, only_last=False)
    batch = dataset.__getitems__([StreamSlice(0, -1), StreamSlice(0, 4, transpose=2)])
    assert batch.clock_BLC is not None
    assert batch.clock_BLC[0].tolist() == [[0, 36], [12, 36], [24, 36], [0, 36]]
    assert batch.clock_BLC[1, :3].tolist() == [[24, 36], [0, 36], [12, 36]]
    assert batch.x_BLF[:, 1, 2].tolist() == [12, 12]  # half a beat is 12 ticks
    idle = dataset.__getitems__([StreamSlice(-1)])
    assert not idle.mask_BT.any()
    seconds = MessageDataset(pieces(7), CODEC, window=3, only_last=False)
    assert seconds.__getitems__([StreamSlice(0, -1)]).clock_BLC is None


def test_the_matches_of_a_row_are_those_of_the_piece() -> None:
    """A figure of ten messages, three times; the last window is a third lower and slower."""
    codec = MessageCodec(velocity_bins=127, longest_match=True)
    stream = np.zeros(30, MESSAGES)
    stream["note"] = 60 + np.arange(30) % 10
    stream["velocity"], stream["time"] = 64, codec.grid.values[50 + np.arange(30) % 10]
    dataset = MessageDataset([Piece("figure", stream)], codec, window=4, only_last=False)
    slices = [StreamSlice(0, -1), StreamSlice(0, 12), StreamSlice(0, 25, True, -3, 1.5),
              StreamSlice(-1)]  # fmt: skip
    batch = dataset.__getitems__(slices)
    x_BLF, match_BLM = batch.x_BLF, batch.match_BLM
    assert match_BLM is not None
    none = [0, *codec.spec.sizes]
    assert match_BLM[0].tolist() == [none] * 5
    assert match_BLM[3].tolist() == [none] * 5
    # Messages 10, 11, 12 … came before, so after message 12 the match has three.
    assert match_BLM[1, :, 0].tolist() == [2, 3, 3, 3, 3]
    assert torch.equal(match_BLM[1, :-1, 1:], x_BLF[1, 1:])
    assert match_BLM[2, :4, 0].tolist() == [5, 5, 5, 5]
    assert torch.equal(match_BLM[2, :4, 1:3], x_BLF[2, 1:, :2])
    # Times are rounded alone, and in a stream with the error of those before.
    assert (match_BLM[2, :4, 3] - x_BLF[2, 1:, 2]).abs().max() <= 1
    plain = MessageDataset([Piece("figure", stream)], CODEC, window=4, only_last=False)
    assert plain.__getitems__(slices).match_BLM is None


def test_windows_of_stride_1_predict_every_message_once() -> None:
    lengths = (7, 1, 12)
    dataset = MessageDataset(pieces(*lengths), CODEC, window=5, only_last=True)
    for shuffle in (False, True):
        plan = MessageWindowSampler(lengths, 5, 1, batch_size=4, shuffle=shuffle).plan(0, 0, 1)
        assert Counter(targets(dataset, plan)) == all_targets(*lengths)


def test_each_epoch_has_a_target_at_most_once_and_many_epochs_have_all() -> None:
    lengths = (23, 3, 10)
    dataset = MessageDataset(pieces(*lengths), CODEC, window=5, only_last=False)
    sampler = MessageWindowSampler(lengths, 5, 5, batch_size=2, seed=1, shuffle=True)
    seen: Counter = Counter()
    for epoch in range(30):
        found = Counter(targets(dataset, sampler.plan(epoch, 0, 1)))
        assert max(found.values()) == 1
        assert len(found) == 20 + 3 + 10
        seen += found
    assert set(seen) == set(all_targets(*lengths))


def test_windows_depend_on_seed_and_epoch_only() -> None:
    def plan(seed: int, epoch: int):
        augment = Augmentation([p.stream for p in pieces(50)], CODEC, 5, 0.1)
        return MessageWindowSampler([50], 5, 5, 2, seed, True, augment).plan(epoch, 0, 1)

    assert plan(0, 3) == plan(0, 3)
    assert plan(0, 3) != plan(0, 4)
    assert plan(0, 3) != plan(1, 3)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_rows", [1, 2, 7])
def test_streams_read_whole_pieces_in_order(batch_rows: int, shuffle: bool) -> None:
    lengths = (23, 3, 10, 1)
    dataset = MessageDataset(pieces(*lengths), CODEC, window=5, only_last=False)
    plan = MessageStreamSampler(lengths, 5, batch_rows, shuffle=shuffle).plan(0, 0, 1)
    assert Counter(targets(dataset, plan)) == all_targets(*lengths)
    for row in zip(*plan, strict=True):
        for previous, current in itertools.pairwise(row):
            follows = (current.piece, current.start) == (previous.piece, previous.start + 5)
            assert current.fresh or follows
        assert row[0].fresh


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_divide_the_pieces_and_windows(world: int) -> None:
    lengths = (23, 3, 10, 17, 40)
    dataset = MessageDataset(pieces(*lengths), CODEC, window=5, only_last=False)
    streams = MessageStreamSampler(lengths, 5, 2)
    plans = [streams.plan(0, rank, world) for rank in range(world)]
    assert len({len(p) for p in plans}) == 1
    assert sum((Counter(targets(dataset, p)) for p in plans), Counter()) == all_targets(*lengths)
    windows = MessageWindowSampler(lengths, 5, 5, 2, seed=0, shuffle=True)
    plans = [windows.plan(0, rank, world) for rank in range(world)]
    assert len({len(p) for p in plans}) == 1
    slices = [s for plan in plans for batch in plan for s in batch]
    assert len(set(slices)) == len(slices)
    evaluation = MessageWindowSampler(lengths, 5, 1, 4)
    last_only = MessageDataset(pieces(*lengths), CODEC, window=5, only_last=True)
    plans = [evaluation.plan(0, rank, world) for rank in range(world)]
    assert sum((Counter(targets(last_only, p)) for p in plans), Counter()) == all_targets(*lengths)


def test_transposed_notes_stay_in_range() -> None:
    low, high = pieces(3)[0].stream, pieces(3)[0].stream.copy()
    low["note"], high["note"] = 22, 108
    augment = Augmentation([low, high], CODEC, semitones=5, tempo=0.1)
    rng = np.random.default_rng(0)
    draws = [[augment.draw(p, rng) for _ in range(300)] for p in (0, 1)]
    assert {s for s, _ in draws[0]} == set(range(-1, 6))
    assert {s for s, _ in draws[1]} == set(range(-5, 1))
    factors = [f for _, f in draws[0]]
    assert min(factors) >= 1 / 1.1
    assert max(factors) <= 1.1
    assert np.std(factors) > 0.03


def test_pieces_are_coded_when_they_are_read_and_the_latest_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(message_rows, "MAX_CODED", 25)
    coded: list[int] = []
    encode = MessageCodec.encode

    def counting(codec: MessageCodec, stream: np.ndarray) -> np.ndarray:
        coded.append(int(stream["note"][0]) - 30)
        return encode(codec, stream)

    monkeypatch.setattr(MessageCodec, "encode", counting)
    dataset = MessageDataset(pieces(10, 10, 10), CODEC, window=3, only_last=False)
    assert dataset.lengths == [10, 10, 10]
    assert coded == []
    expected = [dataset.__getitems__([StreamSlice(p, 2)]).x_BLF for p in (0, 1, 0, 2, 0, 1)]
    assert coded == [0, 1, 2, 1]  # piece 1 had to go for piece 2
    for x_BLF, piece in zip(expected, (0, 1, 0, 2, 0, 1), strict=True):
        assert x_BLF[0, :, 0].tolist() == [30 + piece - 21] * 4


def test_a_piece_larger_than_the_limit_is_kept_while_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(message_rows, "MAX_CODED", 5)
    dataset = MessageDataset(pieces(10, 4), CODEC, window=3, only_last=False)
    assert targets(dataset, [[StreamSlice(0, 4), StreamSlice(1, -1)]]) == [
        (0, 5), (0, 6), (0, 7), (1, 0), (1, 1), (1, 2)
    ]  # fmt: skip


def test_coded_pieces_are_those_of_the_codec() -> None:
    found = CodedPieces(pieces(3, 5), CODEC)
    assert [len(classes) for classes in found] == [3, 5]
    np.testing.assert_array_equal(found[1], CODEC.encode(pieces(3, 5)[1].stream))
    assert [len(classes) for classes in found[1:]] == [5]


def test_the_batches_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = MessageWindowSampler([50, 20], 5, 5, batch_size=2, seed=1, shuffle=True)
    plans: list[int] = []
    plan = MessageWindowSampler.plan
    monkeypatch.setattr(
        MessageWindowSampler, "plan", lambda self, *args: plans.append(1) or plan(self, *args)
    )
    assert len(sampler) == len(sampler) == 7
    assert len(plans) == 1
    sampler.batch_size = 7
    assert len(sampler) == 2

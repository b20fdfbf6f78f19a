"""Rolls → chunks, whole pieces and frames: every frame once, no padding, transposition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from datamodules import piano_rolls
from datamodules.piano_rolls import ChunkSampler, PianoRolls, PieceSampler
from musegen.errors import UserError
from musegen.runtime.random_streams import Stream
from musegen.specs import Frames, Rolls

LENGTHS = [5, 12, 3, 7]


def random_rolls(seed: int) -> list[np.ndarray]:
    """Random pieces of 8 pitches, of which the two lowest and the two highest are never used."""
    rng = np.random.default_rng(seed)
    rolls = [np.zeros((n, 8), np.uint8) for n in LENGTHS]
    for roll_TP in rolls:
        roll_TP[:, 2:6] = rng.random((len(roll_TP), 4)) < 0.6
        roll_TP[0, [2, 5]] = 1
    return rolls


class RandomRolls(PianoRolls):
    def read(self) -> dict[str, list[np.ndarray]]:
        return {s: random_rolls(i) for i, s in enumerate(("train", "val", "test"))}


def ready(**settings) -> RandomRolls:
    data = RandomRolls(**{"pitch_range": (60, 68), **settings})
    data.setup()
    return data


def batches(**settings) -> ChunkSampler:
    given = {"chunk_length": 4, "batch_size": 2, "seed": 1, "shift_N2": np.zeros((4, 2), int)}
    return ChunkSampler(LENGTHS, **{**given, **settings})


def frames_of(plan: list) -> list[tuple[int, int]]:
    return [(c.piece, t) for batch in plan for c in batch for t in range(c.first, c.last)]


ALL_FRAMES = [(i, t) for i, n in enumerate(LENGTHS) for t in range(n)]


def test_training_notes_encode_to_the_training_rolls() -> None:
    data = ready(dt=0.25)
    assert data.beat == 0.5
    for notes, roll_TP in zip(data.notes("train"), random_rolls(0), strict=True):
        np.testing.assert_array_equal(data.rolls_codec.encode(notes), roll_TP)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
@pytest.mark.parametrize("chunk_length", [1, 4, 5, None])
def test_an_epoch_has_every_training_frame_once(batch_size: int, chunk_length: int | None) -> None:
    plan = batches(batch_size=batch_size, chunk_length=chunk_length).plan(3, 0, 1)
    assert sorted(frames_of(plan)) == ALL_FRAMES
    assert max(map(len, plan)) <= batch_size
    assert max(c.last - c.first for b in plan for c in b) == min(chunk_length or 99, 12)


def test_single_chunks_are_in_the_order_of_the_pieces() -> None:
    plan = batches(batch_size=1).plan(0, 0, 1)
    chunks = [c for (c,) in plan]
    assert [c.first for c in chunks if c.piece == 1] == [0, 4, 8]
    order = [c.piece for c in chunks]
    assert order == sorted(order, key=list(dict.fromkeys(order)).index)


def test_chunks_depend_on_seed_epoch_and_rank_only() -> None:
    orders = [[batches(seed=seed).plan(e, 0, 1) for e in range(9)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert not all(plan == orders[0][0] for plan in orders[0])
    both = [batches().plan(3, rank, 2) for rank in (0, 1)]
    assert len(both[0]) == len(both[1]) == 2  # one of five batches is left over
    frames = frames_of(both[0] + both[1])
    assert len(frames) == len(set(frames))


def test_ranks_get_batches_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 41).tolist()
    settings = {
        "chunk_length": None,
        "batch_size": 2,
        "seed": 1,
        "shift_N2": np.zeros((41, 2), int),
    }
    two = [ChunkSampler(lengths, **settings).plan(3, rank, 2) for rank in (0, 1)]
    pairs = [sorted(map(piano_rolls.count_frames, pair)) for pair in zip(*two, strict=True)]
    assert len(pairs) == 10
    assert pairs != sorted(pairs)
    for (_, longer), (shorter, _) in itertools.pairwise(sorted(pairs)):
        assert longer <= shorter


def test_evaluation_reads_the_longest_pieces_first(monkeypatch) -> None:
    monkeypatch.setattr(piano_rolls, "EVAL_FRAMES", 14)
    plan = PieceSampler(LENGTHS).plan(0, 0, 1)
    assert [[c.piece for c in b] for b in plan] == [[1], [3, 0], [2]]
    two = [PieceSampler(LENGTHS).plan(0, rank, 2) for rank in (0, 1)]
    assert sorted(frames_of(two[0] + two[1])) == ALL_FRAMES


def test_padding_is_silent_and_not_counted() -> None:
    for batch in ready(chunk_length=4, batch_size=3).train_dataloader():
        assert batch.x_BTD.dtype == torch.float32
        assert batch.mask_BT.dtype == torch.bool
        assert batch.x_BTD[~batch.mask_BT].sum() == 0
        assert batch.mask_BT.any(0).all()  # no longer than the longest
        lengths_B = batch.mask_BT.sum(1)
        assert (batch.mask_BT == (torch.arange(batch.mask_BT.shape[1]) < lengths_B[:, None])).all()


def test_validation_and_test_read_whole_pieces() -> None:
    data = ready()
    for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        (batch,) = list(loader)
        for i, piece in enumerate((1, 3, 0, 2)):
            x_TD = batch.x_BTD[i][batch.mask_BT[i]]
            np.testing.assert_array_equal(x_TD.numpy(), data.rolls[split][piece])


def test_training_chunks_are_transposed_within_the_range() -> None:
    data = ready(transpose=9, chunk_length=None, batch_size=1)
    shifts = set()
    for epoch in range(40):
        loader = data.train_dataloader()
        loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            x_TD = batch.x_BTD[0].numpy()
            roll_TD = next(r for r in data.rolls["train"] if len(r) == len(x_TD))
            (shift,) = {
                int(np.flatnonzero(a)[0] - np.flatnonzero(b)[0])
                for a, b in zip(x_TD, roll_TD, strict=True)
                if b.any()
            }
            np.testing.assert_array_equal(np.roll(roll_TD, shift, axis=1), x_TD)
            shifts.add(shift)
    assert shifts == {-2, -1, 0, 1, 2}
    np.testing.assert_array_equal(
        next(iter(data.val_dataloader())).x_BTD[0].numpy(), data.rolls["val"][1]
    )


@pytest.mark.parametrize("transpose", [0, 1])
def test_frames_are_shuffled_in_training_only(transpose: int) -> None:
    data = ready(view="frames", batch_size=9, transpose=transpose)
    assert data.spec == Frames(8)
    assert data.codec is None
    loader = data.train_dataloader()
    x_BD = torch.cat([b.x_BD for b in loader])
    assert x_BD.shape == (27, 8)
    assert set(x_BD.unique().tolist()) == {0.0, 1.0}
    loader.batch_sampler.set_epoch(1)
    assert not torch.equal(x_BD, torch.cat([b.x_BD for b in loader]))
    outside = x_BD[:, [0, 1, 6, 7]].sum(0).tolist()
    assert (max(outside) > 0) is bool(transpose)
    assert outside[0] == outside[3] == 0  # by one semitone at most
    (batch,) = list(data.val_dataloader())
    np.testing.assert_array_equal(batch.x_BD.numpy(), np.concatenate(data.rolls["val"]))


def test_a_transposed_frame_keeps_its_intervals() -> None:
    dataset = piano_rolls.FrameDataset(np.array([[0, 1, 1, 0, 0], [0] * 5, [1] * 5], np.uint8), 3)
    seen = set()
    for seed in range(30):
        stream = Stream.TRAINING_EXAMPLES, seed, ()
        x_BD = dataset.__getitems__([piano_rolls.ExampleIndices(np.arange(3), *stream)]).x_BD
        assert x_BD[1].sum() == 0
        assert x_BD[2].sum() == 5
        seen.add(tuple(x_BD[0].int().tolist()))
    assert seen == {(1, 1, 0, 0, 0), (0, 1, 1, 0, 0), (0, 0, 1, 1, 0), (0, 0, 0, 1, 1)}


def test_spec_and_codec_do_not_need_the_files() -> None:
    data = RandomRolls(dt=0.2, repeats="retrigger")
    assert data.spec == Rolls(88)
    assert (data.codec.dt, data.codec.repeats) == (0.2, "retrigger")
    assert ready().describe().startswith("train 4 pieces / 27 frames, val 4")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size=0: should be greater than or equal to 1"),
        ({"chunk_length": 0}, "chunk_length=0: should be greater than or equal to 1"),
        ({"transpose": -1}, "transpose=-1: should be greater than or equal to 0"),
        ({"num_workers": False}, "num_workers=False: should be a number"),
        ({"dt": 0.001}, "dt=0.001"),
        ({"view": "frames", "batch_size": 28}, "batch_size=28: there are 27 frames"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ready(**settings).train_dataloader()

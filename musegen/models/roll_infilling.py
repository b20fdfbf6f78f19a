"""Rewriting a region of a piece by a model of piano-rolls, and how surprising each frame is.

A region is frames of a stretch of time × pitches. A note belongs to where it starts:

- notes that start outside the region are in the result as they were, to the last bit, and where
  they sound in the region nothing is sampled;
- notes that start inside are replaced. What one of them sounds after the region's end is given,
  as everything there: it is the end of a new note of that pitch, or, if none reaches the end of the
  region, a note that starts there.

The free cells of the roll are sampled by particle Gibbs (`musegen.models.layers.particle_gibbs`).
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from musegen.codecs.midi import NOTES
from musegen.codecs.midi_layout import LaidOutNotes, layout_of, with_layout
from musegen.codecs.region import SURPRISE, Region, checked_notes
from musegen.codecs.roll_codec import MAX_FRAMES, RollCodec
from musegen.codecs.tonality import semitones_to_c, transposed
from musegen.errors import UserError
from musegen.models.layers.particle_gibbs import ParticleGibbs, schedule
from musegen.runtime.progress import track
from musegen.runtime.random_streams import Stream, torch_stream
from musegen.runtime.steps import report_step

if TYPE_CHECKING:
    from musegen.models.roll_model import RollModel

SWEEPS = 6
"""After the first pass: each length of blocks twice."""


class RollRegion:
    """The free cells of a region, `free_TD`, and the given ones, `x_TD`, in the codec's pace.

    Raises `UserError` for a region in which the model can write nothing.
    """

    def __init__(self, codec: RollCodec, notes: np.ndarray, region: Region, pace: float) -> None:
        region.check(notes)
        self.codec, self.notes, self.pace = codec, notes, pace
        self.shift = semitones_to_c(notes) if codec.common_key else 0
        self.first, self.stop = (self.frame(s) for s in (region.start, region.end))
        if not self.first < self.stop <= MAX_FRAMES:
            raise UserError(
                f"{region}: should contain the middle of a frame, and end before frame "
                f"{MAX_FRAMES:,}; a frame has {codec.dt / pace:.6g} s"
            )
        low, high = codec.pitch_range
        low, high = max(low - self.shift, region.low), min(high - 1 - self.shift, region.high)
        inside_K = region.holds(notes) & (notes["pitch"] >= low) & (notes["pitch"] <= high)
        self.inside_K = inside_K & ~region.kept(notes)
        tails = notes[self.inside_K].copy()
        tails["start"] = self.stop * codec.dt / pace
        self.tails = tails[self.frame(tails["end"]) > self.stop]
        self.x_TD = self.roll(np.concatenate([notes[~self.inside_K], self.tails]))
        self.free_TD = (self.x_TD == 0) & self._within(region, low, high)
        if not self.free_TD.any():
            raise UserError(
                f"{region}: no note can be written there; the model has the pitches "
                f"{codec.pitch_range[0] - self.shift} to {codec.pitch_range[1] - 1 - self.shift}"
            )

    def _within(self, region: Region, low: int, high: int) -> np.ndarray:
        """The cells of the region from `low` to `high`, on the free side of the kept voice."""
        within_TD = np.zeros_like(self.x_TD, bool)
        frames = np.arange(self.first, self.stop)
        low_F, high_F = region.limits(self.notes, (frames + 0.5) * self.codec.dt / self.pace)
        pitch_D = np.arange(within_TD.shape[1]) + self.codec.pitch_range[0] - self.shift
        low_F1, high_F1 = low_F.clip(low)[:, None], high_F.clip(max=high)[:, None]
        within_TD[frames] = (pitch_D >= low_F1) & (pitch_D <= high_F1)
        return within_TD

    def frame(self, seconds: Any) -> Any:
        """The first frame whose middle is not before this time, of a number or of an array."""
        return np.ceil(np.asarray(seconds) * self.pace / self.codec.dt - 0.5).astype(int)[()]

    def roll(self, notes: np.ndarray) -> np.ndarray:
        """The roll of notes, (T, D), as long as the piece or the region, whichever is longer."""
        paced = transposed(notes, self.shift)
        for column in ("start", "end"):
            paced[column] *= self.pace
        roll_TD = self.codec.encode(paced)
        length = max(self.stop, int(self.frame(self.notes["end"].max())))
        return np.pad(roll_TD, ((0, length - len(roll_TD)), (0, 0)))

    def pieces(self, x_NTD: np.ndarray) -> list[np.ndarray]:
        """The notes outside the region, with the new ones of each roll."""
        return [self._piece(x_TD * self.free_TD) for x_TD in x_NTD]

    def _piece(self, new_TD: np.ndarray) -> np.ndarray:
        decoded = self.codec.decode(new_TD)
        new = transposed(decoded, -self.shift)
        for column in ("start", "end"):
            new[column] /= self.pace
        new["velocity"] = np.median(self.notes["velocity"])
        border = self.stop * self.codec.dt / self.pace
        tails = []
        for tail in self.tails:
            reaches = (new["pitch"] == tail["pitch"]) & (np.abs(new["end"] - border) < 1e-6)
            new["end"][reaches] = tail["end"]
            if not reaches.any():
                tails.append(tail)
        outside = self.notes[~self.inside_K]
        notes = np.concatenate([outside, np.array(tails, NOTES), new]).view(np.ndarray)
        notes = notes[np.lexsort((notes["pitch"], notes["start"]))]
        if isinstance(self.notes, LaidOutNotes):
            return with_layout(notes, layout_of(self.notes))
        layout = layout_of(decoded)
        seconds_per_beat = layout.seconds_per_beat / self.pace
        return with_layout(notes, replace(layout, seconds_per_beat=seconds_per_beat, key=None))


@torch.inference_mode()
def infill_rolls(
    model: RollModel,
    notes: np.ndarray,
    region: Region,
    n: int,
    temperature: float,
    sweeps: int | None,
    tempo: float | None,
    seed: int,
) -> list[np.ndarray]:
    """The pieces of `RollModel.infill`."""
    codec = model.codec
    assert codec is not None
    cells = RollRegion(codec, checked_notes(notes), region, pace(codec, tempo))
    generator = torch_stream(Stream.SAMPLING, seed, device=model.device)
    start = model.frame_sampler(1, cells.stop + 1, temperature, generator)
    x_TD = torch.from_numpy(cells.x_TD).to(start.x_NTD)
    for frame_D in x_TD[: cells.first]:
        start.append(frame_D[None])
    free_TD = torch.from_numpy(cells.free_TD).to(x_TD.device)
    gibbs = ParticleGibbs(x_TD.repeat(n, 1, 1), free_TD, model.infill_effort, generator)
    sweeps = SWEEPS if sweeps is None else sweeps
    done, total = itertools.count(1), (1 + sweeps) * (cells.stop - cells.first)

    def pieces() -> list[np.ndarray]:
        return cells.pieces(gibbs.x_NTD.cpu().numpy())

    def after_frame() -> None:
        report_step(next(done), total, pieces)

    blocks = schedule(cells.first, cells.stop, sweeps, generator)
    for sweep in track(blocks, "rewriting", "sweeps", 1 + sweeps):
        gibbs.sweep(start, sweep, after_frame)
    return pieces()


@torch.inference_mode()
def roll_surprise(model: RollModel, notes: np.ndarray, tempo: float | None) -> np.ndarray:
    """The array of `RollModel.surprise`."""
    codec = model.codec
    assert codec is not None
    factor = pace(codec, tempo)
    paced = transposed(checked_notes(notes), semitones_to_c(notes) if codec.common_key else 0)
    for column in ("start", "end"):
        paced[column] *= factor
    x_TD = torch.from_numpy(codec.encode(paced))
    surprise = np.zeros(len(x_TD), SURPRISE)
    if not len(x_TD):
        return surprise
    generator = torch_stream(Stream.ASSESSMENT, 0, device=model.device)
    sampler = model.frame_sampler(1, len(x_TD), 1.0, generator)
    nll_T = -sampler.log_prob(x_TD.to(sampler.x_NTD)[None])[0]
    frame = np.arange(len(x_TD))
    surprise["start"], surprise["end"] = (k * codec.dt / factor for k in (frame, frame + 1))
    surprise["pitch"], surprise["nll"] = -1, nll_T.cpu().numpy()
    return surprise


def pace(codec: RollCodec, tempo: float | None) -> float:
    """By what the times of notes are multiplied, so that they are those of the codec.

    `tempo` is that of the notes, in quarter notes per minute. Without it, and if the codec does not
    count beats, the times stay as they are.
    """
    if tempo is None or codec.seconds_per_beat is None:
        return 1.0
    return codec.seconds_per_beat * tempo / 60

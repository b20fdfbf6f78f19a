"""The base of all models of piano-rolls: histories in training, and generation frame by frame."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from musegen.codecs.midi import MIDDLE_C
from musegen.codecs.region import Keep, Region
from musegen.codecs.roll_codec import RollCodec
from musegen.constraints import (
    BeatsPerMinute,
    MidiPitch,
    NonNegativeInt,
    Odds,
    PositiveInt,
    PositiveTemperature,
    SampleCount,
    SampleLength,
    Seed,
    check_arguments,
)
from musegen.errors import UserError
from musegen.models.base import Model
from musegen.models.layers.frame_sampler import FrameSampler
from musegen.models.layers.frozen_history import freeze_history
from musegen.models.layers.hold_limits import HoldLimits, hold_limits
from musegen.models.layers.particle_gibbs import Effort
from musegen.models.layers.particles import continue_pieces
from musegen.models.layers.roll_critic import RollCritic
from musegen.models.roll_infilling import infill_rolls, roll_surprise
from musegen.render.shown import Samples, as_samples
from musegen.runtime.random_streams import Stream, torch_stream
from musegen.runtime.steps import report_step
from musegen.specs import RollBatch, Rolls

Repeats = Literal["sustain", "retrigger"]
CRITIC = "critic."
"""The first part of the names of a critic's weights."""
USUAL_REPEAT_ODDS = 4.0
"""With it, matches of tunes of Nottingham go on about as often as in real ones."""


class Generation(NamedTuple):
    """The settings of `RollModel.generate` that do not depend on how frames are sampled."""

    n: int
    length: int
    particles: int
    max_hold: int | None
    repeats: Repeats | None
    include_prime: bool
    seed: int
    repeat_odds: float
    critic: bool


class RollModel(Model, abstract=True):
    """A model of p(v(t) | v(1) … v(t−1)), the frames of a piano-roll one after another.

    Subclasses set `frozen_histories` and `flipped_notes`, and provide a `FrameSampler`.
    """

    reads = (Rolls,)
    codec_type = RollCodec
    recorded = frozenset(("hold_limits",))
    need_recorded = frozenset(("particles",))
    infill_effort: ClassVar[Effort] = Effort(particles=16, near=16, far=256)
    """What `infill` computes for each block of frames."""
    spec: Rolls
    codec: RollCodec | None
    frozen_histories: float
    flipped_notes: float
    critic: RollCritic | None

    def __init__(self, spec: Rolls, codec: RollCodec | None = None) -> None:
        super().__init__(spec, codec)
        self.critic = None

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load the weights, and the critic if there is one among them."""
        has_critic = any(name.startswith(CRITIC) for name in state_dict)
        self.critic = RollCritic(self.spec.pitches, self.low_pitches) if has_critic else None
        return super().load_state_dict(state_dict, *args, **kwargs)

    def weights_from(self, source: Model) -> dict[str, Tensor]:
        """The weights without the critic, which knows the source's pieces."""
        weights = super().weights_from(source)
        return {k: v for k, v in weights.items() if not k.startswith(CRITIC)}

    @property
    def low_pitches(self) -> int:
        """The number of columns below middle C."""
        lowest = (self.codec or RollCodec()).pitch_range[0]
        return min(max(MIDDLE_C - lowest, 0), self.spec.pitches)

    @property
    def searches(self) -> bool:
        """Whether the model searches for the longest match."""
        return getattr(self, "match", None) is not None

    def num_predictions(self, batch: RollBatch) -> int | Tensor:
        return batch.mask_BT.sum()

    def history(self, batch: RollBatch) -> Tensor:
        """The frames that the model is conditioned on, (B, T, D): the true ones, with parts of them
        frozen in training (`musegen.models.layers.frozen_history`)."""
        if not self.training:
            return batch.x_BTD
        return freeze_history(*batch, self.low_pitches, self.frozen_histories, self.flipped_notes)

    def on_train_start(self) -> None:
        """Record the longest usual holds of the training rolls in the codec, for generation."""
        super().on_train_start()
        data = getattr(self.trainer, "datamodule", None)
        rolls = getattr(data, "rolls", {}).get("train")
        if rolls and self.codec is not None:
            note, chord = hold_limits(rolls, self.low_pitches)
            self.codec = replace(self.codec, hold_limits=(note, chord))
            self.hparams["codec"] = self.codec.to_dict()

    # --- Generation -------------------------------------------------------------------------

    @abstractmethod
    def frame_sampler(
        self, rows: int, frames: int, temperature: float, generator: Generator
    ) -> FrameSampler:
        """A sampler of `rows` sequences of at most `frames` frames, before their first frame."""

    @torch.inference_mode()
    @check_arguments
    def generate(
        self,
        n: SampleCount = 4,
        length: SampleLength = 200,
        temperature: PositiveTemperature = 1.0,
        repeat_odds: Odds | None = None,
        particles: PositiveInt = 1,
        max_hold: PositiveInt | None = None,
        critic: bool = True,
        repeats: Repeats | None = None,
        prime: Path | None = None,
        prime_seconds: float | None = None,
        include_prime: bool = False,
        seed: Seed = 0,
    ) -> list[np.ndarray]:
        """n generated pieces of `length` frames, as `NOTES` arrays.

        Every frame is an exact sample, except for what `repeat_odds` and `particles` change.

        - temperature: divides the logit of each note given the notes below it.
        - repeat_odds: phrases return more often, the greater it is: where the last 4 to 31 frames
          came before in the piece, the odds of the frame that followed then are multiplied by it
          (`musegen.models.layers.repeated_frames`). null is 4 for a model with `longest_match`; 1
          leaves repeats to the model.
        - particles: how many continuations of each piece are sampled side by side. If more than 1,
          a continuation in which a chord or a note is held too long is replaced by another one.
        - max_hold: what is too long, in frames; with `particles=1` such notes are released. With
          null it is the hold that 99.9 % of those of the training set do not exceed, one for notes
          and one for chords below middle C.
        - critic: let the critic choose among the particles, if the model has one
          (`musegen critic run=RUN` trains it).
        - repeats: whether a pitch in successive frames is one note (`sustain`) or a new note in
          each (`retrigger`); null uses the codec's setting.
        - prime: a MIDI file, or its first `prime_seconds`, that the pieces continue; with
          `include_prime` the result contains it.

        Training mode and the global random streams do not change. Raises `UserError` for a setting
        outside its range, for a prime without notes, and for `repeat_odds` without `longest_match`.
        """
        odds = (USUAL_REPEAT_ODDS if self.searches else 1.0) if repeat_odds is None else repeat_odds
        return self.generate_by(
            lambda rows, frames, rng: self.frame_sampler(rows, frames, temperature, rng),
            Generation(n, length, particles, max_hold, repeats, include_prime, seed, odds, critic),
            prime,
            prime_seconds,
        )

    def generate_by(
        self,
        new_sampler: Callable[[int, int, Generator], FrameSampler],
        settings: Generation,
        prime: Path | None,
        prime_seconds: float | None,
    ) -> list[np.ndarray]:
        """The pieces of `generate`, by the sampler of `new_sampler(rows, frames, generator)`."""
        assert self.codec is not None
        if settings.repeat_odds != 1 and not self.searches:
            raise UserError(
                f"repeat_odds={settings.repeat_odds:g}: this model does not search for what is "
                "repeated; train one with model.longest_match=true"
            )
        limits = self.limits(settings.particles, settings.max_hold)
        critic = self.critic if settings.critic and settings.particles > 1 else None
        generator = torch_stream(Stream.SAMPLING, settings.seed, device=self.device)
        prime_TD = torch.from_numpy(self.codec.prime_frames(prime, prime_seconds))
        codec = replace(self.codec, repeats=settings.repeats or self.codec.repeats)
        rows, primed, particles = settings.n * settings.particles, len(prime_TD), settings.particles

        def pieces() -> list[np.ndarray]:
            first = 0 if settings.include_prime else primed
            x_NTD = sampler.x_NTD[::particles, first : sampler.t].float().cpu().numpy()
            return [codec.decode(piece_TD) for piece_TD in x_NTD]

        def after_frame() -> None:
            report_step(sampler.t - primed, settings.length, pieces)

        with self.evaluating():
            sampler = new_sampler(rows, primed + settings.length, generator)
            how = self.low_pitches, settings.repeat_odds, critic, after_frame
            continue_pieces(sampler, prime_TD, limits, particles, *how)
        return pieces()

    def limits(self, particles: int, max_hold: int | None) -> HoldLimits | None:
        """The hold limits of a generation; None without limits.

        Raises `UserError` if the checkpoint does not record the holds of its training set.
        """
        if max_hold is not None:
            return HoldLimits(max_hold, max_hold)
        if particles == 1:
            return None
        if self.codec is None or self.codec.hold_limits is None:
            raise UserError(
                f"particles={particles}: this checkpoint does not record how long the notes of its "
                "training set are held, so max_hold has to be set, in frames"
            )
        return HoldLimits(*self.codec.hold_limits)

    # --- Infilling ----------------------------------------------------------------------------

    @check_arguments
    def infill(
        self,
        notes: np.ndarray,
        start: float,
        end: float,
        pitches: tuple[MidiPitch, MidiPitch] = (0, 127),
        n: SampleCount = 1,
        temperature: PositiveTemperature = 1.0,
        sweeps: NonNegativeInt | None = None,
        seed: Seed = 0,
        keep: Keep = "none",
        tempo: BeatsPerMinute | None = None,
    ) -> Samples:
        """The piece `notes` with the region from `start` to `end` seconds written again, n times.

        The new notes are samples of what the model expects there, given all other notes, before
        and after (`musegen.models.layers.particle_gibbs`). Notes that start outside the region do
        not change (`musegen.models.roll_infilling`).

        - start, end: the region, in seconds.
        - pitches: the lowest and the highest MIDI pitch of the region.
        - temperature: divides the logit of each note, or all energies of an RBM.
        - sweeps: how often all frames of the region are written once more after the first time;
          more are closer to the model and slower. null is 6.
        - keep: notes of the region that stay: `melody`, the highest ones, `bass`, the lowest ones,
          or `none`. New notes are below the melody, or above the bass.
        - tempo: quarter notes per minute of `notes`, if the model counts beats; null is the tempo
          of the model's own pieces.

        Training mode and the global random streams do not change. Raises `UserError` for notes
        that are none, and for a region without length, outside the piece or the model's pitches.
        """
        region = Region(start, end, *pitches, keep)
        with self.evaluating():
            pieces = infill_rolls(self, notes, region, n, temperature, sweeps, tempo, seed)
        return as_samples(self.spec, pieces)

    @check_arguments
    def surprise(self, notes: np.ndarray, tempo: BeatsPerMinute | None = None) -> np.ndarray:
        """−log p of each frame of a piece given the frames before it, in nats.

        A structured array with the fields start, end (seconds), pitch (−1: all pitches) and nll.
        Exact, except for RBMs: theirs is an estimate by annealed importance sampling. `tempo` and
        errors are those of `infill`.
        """
        with self.evaluating():
            return roll_surprise(self, notes, tempo)

"""What the studio does with models of music: generate, continue, rewrite, and show surprise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

import numpy as np

from musegen.codecs.messages import MessageCodec
from musegen.codecs.midi import NOTES
from musegen.codecs.roll_codec import RollCodec
from musegen.codecs.tonality import semitones_to_c
from musegen.errors import UserError
from musegen.models import Model
from musegen.runtime.steps import GenerationStopped, Step, watching
from musegen.studio.jobs import Job
from musegen.studio.session import Session, laid_out, write_prime
from musegen.studio.settings import MAX_LENGTH
from musegen.studio.wire import rows_of

MIN_NOTE = 0.01
"""Seconds: what is left of a note at a seam has to be at least this long."""

MAX_STRETCHES = 64
"""Weak beats of a variation."""
SEED_STEP = 1_000_003
"""Between the seeds of two weak beats, so that those of neighbouring seeds differ."""
MAX_NATS = 1000.0
"""What an impossible note is shown as: JSON has no infinity."""


class _LongEnough(GenerationStopped):
    """The pieces are as long as was asked for."""


class Frame(NamedTuple):
    """How a piece differs from what a model reads: its time is `scale` times the model's, and
    the model reads it `shift` semitones higher."""

    scale: float = 1.0
    shift: int = 0

    def to_model(self, notes: np.ndarray) -> np.ndarray:
        """The piece's notes as the model reads them."""
        return self._moved(notes, 1 / self.scale, self.shift)

    def from_model(self, notes: np.ndarray) -> np.ndarray:
        """The model's notes in the tempo and key of the piece."""
        return self._moved(notes, self.scale, -self.shift)

    @staticmethod
    def _moved(notes: np.ndarray, factor: float, semitones: int) -> np.ndarray:
        moved = np.array(notes, NOTES)
        pitch = moved["pitch"].astype(int) + semitones
        moved = moved[(pitch >= 0) & (pitch <= 127)]
        moved["pitch"] = pitch[(pitch >= 0) & (pitch <= 127)]
        for column in ("start", "end"):
            moved[column] *= factor
        return moved


def frame_of(model: Model, notes: np.ndarray, tempo: float) -> Frame:
    """The frame of a piece in quarter notes per minute `tempo`, for a model of piano-rolls."""
    codec = model.codec
    if not isinstance(codec, RollCodec):
        return Frame()
    beat = codec.seconds_per_beat
    scale = 1.0 if beat is None else 60 / tempo / beat
    return Frame(scale, semitones_to_c(notes) if codec.common_key and len(notes) else 0)


def notes_in(sample: Any) -> np.ndarray:
    """The notes of a sample, which is (label, notes) from a model with labels."""
    notes = sample[1] if isinstance(sample, tuple) else sample
    return np.asarray(notes)


def seconds_per_step(model: Model, tempo: float) -> float | None:
    """How long a frame of a model of piano-rolls lasts; None for models of messages."""
    if not isinstance(model.codec, RollCodec):
        return None
    return model.codec.dt * frame_of(model, np.empty(0, NOTES), tempo).scale


class Continuation(NamedTuple):
    """Notes that a model continues, from `cut` seconds on."""

    notes: np.ndarray
    tempo: float
    frame: Frame
    cut: float

    @classmethod
    def of(cls, model: Model, notes: np.ndarray, tempo: float, session: Session) -> Continuation:
        """The continuation of the notes. Raises `UserError` if the model reads none of them."""
        codec, frame = model.codec, frame_of(model, notes, tempo)
        if not isinstance(codec, RollCodec | MessageCodec):
            raise UserError(f"{model.name} continues nothing")
        with session.scratch() as folder:
            read = codec.read(write_prime(notes, tempo, folder))
        if not len(read if isinstance(codec, RollCodec) else codec.in_range(read)):
            low, high = codec.pitch_range
            raise UserError(f"no note is within the model's pitches, {low} to {high - 1}")
        if isinstance(codec, RollCodec):
            end = len(read) * codec.dt * frame.scale
        else:
            end = float(read["time"].sum()) * (60 / tempo if codec.in_beats else 1.0)
        return cls(notes, tempo, frame, end)

    def joined(self, generated: np.ndarray) -> np.ndarray:
        """The notes as they are, and what was generated after them."""
        found = self.frame.from_model(generated)
        found["start"] = found["start"].clip(min=self.cut)
        found = found[found["end"] - found["start"] > MIN_NOTE]
        return np.concatenate([np.asarray(self.notes, NOTES), found])


def generate(
    job: Job,
    model: Model,
    session: Session,
    settings: dict[str, Any],
    prime: np.ndarray,
    tempo: float,
    seconds: float | None,
) -> dict[str, Any]:
    """Generate pieces, or continue `prime` if it has notes. Publishes the notes so far.

    `seconds` is the length of what is new, and replaces the setting `length`.
    """
    start = Continuation.of(model, prime, tempo, session) if len(prime) else None
    cut = start.cut if start else 0.0
    finish = _finisher(model, start, tempo, cut, seconds)
    if seconds is not None:
        step = seconds_per_step(model, tempo)
        length = MAX_LENGTH if step is None else math.ceil(seconds / step)
        if length > MAX_LENGTH:
            raise UserError(f"{seconds:g} s are more than {MAX_LENGTH} frames; choose fewer")
        settings = settings | {"length": length}
    newest: list[Any] = []

    def describe(step: Step) -> dict[str, Any]:
        newest[:] = step.samples()
        pieces = finish(newest)
        fraction = step.done / step.total
        if seconds is not None and seconds_per_step(model, tempo) is None:
            reached = min(float(notes_in(s)["start"].max(initial=0.0)) for s in newest) - cut
            if reached >= seconds:
                raise _LongEnough
            fraction = max(0.0, reached / seconds)
        return {"fraction": fraction, "pieces": [rows_of(p) for p in pieces]}

    with suppress(_LongEnough), watching(job.watcher(describe)), ExitStack() as stack:
        if start is not None:
            path = write_prime(prime, tempo, stack.enter_context(session.scratch()))
            settings = settings | {"prime": path, "include_prime": True}
        newest[:] = model.generate(**settings)
    labels = [s[0] if isinstance(s, tuple) else None for s in newest]
    return {"pieces": [rows_of(p) for p in finish(newest)], "labels": labels, "cut": cut}


def _finisher(
    model: Model, start: Continuation | None, tempo: float, cut: float, seconds: float | None
) -> Callable[[Sequence[Any]], list[np.ndarray]]:
    """Samples → pieces in the tempo of the page: joined to the prime, and cut off at their end."""
    frame = frame_of(model, np.empty(0, NOTES), tempo)

    def finish(samples: Sequence[Any]) -> list[np.ndarray]:
        pieces = []
        for sample in samples:
            notes = notes_in(sample)
            notes = frame.from_model(notes) if start is None else start.joined(notes)
            if seconds is not None:
                notes = notes[notes["start"] < cut + seconds - MIN_NOTE]
                notes["end"] = notes["end"].clip(max=max(cut + seconds, cut))
            pieces.append(notes)
        return pieces

    return finish


class Rewriting(NamedTuple):
    """What is written again: `start` ≤ seconds < `end`, `low` ≤ pitch ≤ `high`; see `infill`.

    - keep: the voice that stays, `none`, `melody` or `bass`.
    - weak_beats: only the notes on every second beat are written again, so that a variation stays
      close to the passage.
    """

    start: float
    end: float
    low: int
    high: int
    keep: str
    weak_beats: bool

    def stretches(self, beat: float) -> list[tuple[float, float]]:
        """The stretches of time that are written again one after another."""
        if not self.weak_beats:
            return [(self.start, self.end)]
        first = math.floor(self.start / beat / 2)
        beats = [(2 * i + 1) * beat for i in range(first, math.ceil(self.end / beat / 2))]
        found = [(max(t, self.start), min(t + beat, self.end)) for t in beats]
        return [(start, end) for start, end in found if end - start > MIN_NOTE]


def rewrite(
    job: Job, model: Any, notes: np.ndarray, tempo: float, region: Rewriting,
    settings: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Write a region of the notes again, n times. Publishes progress and the notes so far."""
    _require(model, "infill")
    stretches = region.stretches(60 / tempo)
    if not stretches:
        raise UserError("the region has no weak beat; choose a longer one")
    if len(stretches) > MAX_STRETCHES:
        raise UserError(f"a variation may have at most {MAX_STRETCHES} weak beats; choose a region")
    how = {"pitches": (region.low, region.high), "keep": region.keep, "tempo": tempo}
    piece, seed, n = laid_out(notes, tempo), settings.pop("seed"), settings.pop("n")
    calls = len(stretches) * (1 if len(stretches) == 1 else n)
    done = 0

    def describe(step: Step) -> dict[str, Any]:
        shown = [rows_of(notes_in(p)) for p in step.samples()]
        return {"fraction": (done + step.done / step.total) / calls, "pieces": shown}

    with watching(job.watcher(describe)):
        if calls == 1:
            pieces = model.infill(piece, *stretches[0], n=n, seed=seed, **how, **settings)
        else:
            pieces = [piece] * n
            for i, (start, end) in itertools.product(range(n), stretches):
                own = (seed + done * SEED_STEP) % 2**32
                (pieces[i],) = model.infill(pieces[i], start, end, seed=own, **how, **settings)
                done += 1
    return {"pieces": [rows_of(notes_in(p)) for p in pieces]}


def surprise(model: Any, notes: np.ndarray, tempo: float) -> dict[str, Any]:
    """The negative log-probability of each note or frame, in nats."""
    _require(model, "surprise")
    rows = model.surprise(laid_out(notes, tempo), tempo=tempo)
    rows["nll"] = rows["nll"].clip(max=MAX_NATS)
    columns = [np.round(rows[c].astype(float), 6) for c in ("start", "end", "pitch", "nll")]
    return {"rows": [list(row) for row in zip(*(c.tolist() for c in columns), strict=True)]}


def _require(model: Any, method: str) -> None:
    """Raise `UserError` if the model, perhaps one of the user, does not have the method."""
    if not hasattr(model, method):
        raise UserError(f"{model.name} has no `{method}`, which this needs; choose another model")

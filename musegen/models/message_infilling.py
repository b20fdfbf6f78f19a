"""Rewriting a region of a piece by a model of messages, and how surprising each note is.

A note belongs to where it starts. Notes that start outside the region are in the result as they
were, to the last bit; those that start inside are replaced by samples of

    π(new notes) ∝ p(all messages of the piece, in the order in which the model was trained)

A new note starts in the region and ends at the latest `RING` after it.

The sampler is particle Gibbs, as for piano-rolls (`musegen.models.layers.particle_gibbs`), over
blocks of time. How messages are drawn between given ones: `musegen.models.message_particles`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Generator

from musegen.codecs.labels import label_class
from musegen.codecs.messages import MessageCodec
from musegen.codecs.meter import COMMON_BAR, bar_ticks, signature_of
from musegen.codecs.midi import NOTES, tidy
from musegen.codecs.midi_layout import LaidOutNotes, MidiLayout, layout_of, ticks_for, with_layout
from musegen.codecs.region import SURPRISE, Region, checked_notes
from musegen.codecs.time_grid import TICKS
from musegen.errors import UserError
from musegen.models.message_particles import SAME_TIME, Block, Particles
from musegen.models.message_reader import RELEASE_FIRST, Reader, events_of
from musegen.runtime.progress import track
from musegen.runtime.random_streams import Stream, torch_stream
from musegen.runtime.steps import report_step

if TYPE_CHECKING:
    from musegen.models.lstm_midi import LSTMMidi

SWEEPS = 3
"""After the first pass: each length of blocks once."""
PARTICLES, NEAR, FAR = 16, 32, 512
"""Particles of each block; the messages after it that weigh all of them, and those that decide
between the chosen one and what was there."""
PARTS = 100
"""Steps of progress in each pass."""
BLOCK_LENGTHS = {True: (4.0, 2.0, 1.0), False: (2.0, 1.0, 0.5)}
"""Of the sweeps, in beats (True) or in seconds."""
RING = {True: 4.0, False: 2.0}
"""How long a new note may sound after the region, in beats or in seconds."""


class Metre(NamedTuple):
    """How the times of notes are read: seconds per unit of time, and the ticks of a bar."""

    unit: float
    bar: int


def metre_of(model: LSTMMidi, tempo: float | None, time_signature: tuple[int, int] | None) -> Metre:
    """In beats, the unit is a quarter note at this tempo, otherwise a second."""
    codec = model.codec
    if not codec.in_beats:
        return Metre(1.0, COMMON_BAR)
    usual = int(model.bars_L.argmax()) or COMMON_BAR
    bar = bar_ticks(time_signature) if time_signature else usual
    return Metre(60 / (tempo or codec.tempo), bar)


class MessageRegion:
    """A piece and a region, in the codec's unit of time."""

    def __init__(self, codec: MessageCodec, notes: np.ndarray, region: Region, unit: float) -> None:
        region.check(notes)
        self.codec, self.notes, self.unit = codec, notes, unit
        low, high = codec.pitch_range
        possible = (notes["pitch"] >= low) & (notes["pitch"] < high)
        self.inside_K = region.holds(notes) & possible & ~region.kept(notes)
        self.region = replace(
            region, start=region.start / unit, end=region.end / unit,
            low=max(low, region.low), high=min(high - 1, region.high),
        )  # fmt: skip
        if self.region.low > self.region.high:
            raise UserError(f"{region}: the model has the pitches {low} to {high - 1}")
        self.all = in_units(codec, notes[possible], unit)
        self.given = in_units(codec, notes[possible & ~self.inside_K], unit)

    def piece(self, new: np.ndarray, metre: Metre) -> np.ndarray:
        """The notes outside the region and the new ones."""
        new = new.copy()
        for column in ("start", "end"):
            new[column] *= self.unit
        notes = np.concatenate([self.notes[~self.inside_K], new]).view(np.ndarray)
        notes = notes[np.lexsort((notes["pitch"], notes["start"]))]
        if isinstance(self.notes, LaidOutNotes):
            return with_layout(notes, layout_of(self.notes))
        if not self.codec.in_beats:
            return with_layout(notes, MidiLayout(program=self.codec.program))
        signature = signature_of(metre.bar)
        layout = MidiLayout(self.unit, ticks_for(TICKS), signature, program=self.codec.program)
        return with_layout(notes, layout)


def in_units(codec: MessageCodec, notes: np.ndarray, unit: float) -> np.ndarray:
    """The notes in the codec's unit of time; in beats on its ticks, each at least one tick long."""
    notes = notes.view(np.ndarray).copy()
    for column in ("start", "end"):
        notes[column] /= unit
    if codec.in_beats:
        start, end = (np.round(notes[column] * TICKS) for column in ("start", "end"))
        notes["start"], notes["end"] = start / TICKS, np.maximum(end, start + 1) / TICKS
    return tidy(notes)


class MessageGibbs:
    """Rewrites the new notes of one piece, `new` (`NOTES` in the codec's unit)."""

    def __init__(self, reader: Reader, region: MessageRegion, generator: Generator) -> None:
        self.reader, self.generator = reader, generator
        self.codec, self.region, self.given = region.codec, region.region, region.given
        self.new = np.empty(0, NOTES)
        in_beats = self.codec.in_beats
        self.limit = self.region.end + RING[in_beats]
        events = events_of(self.codec, self.given)
        context = events[events["time"] < self.region.start - SAME_TIME]
        self.origin = self._origin(context)
        x_BLF = torch.from_numpy(reader.classes(context, self.origin))[None].to(reader.model.device)
        time_BL = torch.from_numpy(context["time"].copy())[None]
        _, self.cursor = reader.read(reader.start(), x_BLF, time_BL)
        voice = region.all[self.region.kept(region.all)]
        self.at_A = np.unique(np.r_[0.0, voice["start"], voice["end"]])
        lowest = self.codec.pitch_range[0]
        self.low_A, self.high_A = (
            limit_A - lowest for limit_A in self.region.limits(region.all, self.at_A)
        )

    def _origin(self, context: np.ndarray) -> float:
        """The time that the first message is counted from: in beats a bar line."""
        first = float(context["time"][0]) if len(context) else self.region.start
        bar = self.reader.bar / TICKS
        return first // bar * bar if self.codec.in_beats else first

    def rewrite(
        self, start: float, end: float, fresh: bool, after_step: Callable[[float], None]
    ) -> None:
        """Write the notes that start from `start` to `end`; `fresh` if no particle keeps them."""
        at = self.new["start"] + SAME_TIME
        inside = (at >= start) & (at < end)
        events = events_of(self.codec, tidy(np.concatenate([self.given, self.new[~inside]])))
        kept = events_of(self.codec, self.new[inside])
        kept = kept[(kept["velocity"] > 0) | (kept["time"] < self.limit - SAME_TIME)]
        particles = self.particles(events, start, end, None if fresh else kept)
        particles.run(after_step)
        every = torch.arange(particles.count, device=particles.time_B.device)
        near = int(particles.next_B.max()) + NEAR
        particles.log_weight_B += particles.weigh(every, 0, near)
        if fresh and not bool((particles.log_weight_B > -torch.inf).any()):
            return  # without a new note; the sweeps begin from there
        chosen = particles.choose()
        if not fresh and chosen and near < particles.last:
            first, other = particles.weigh(every[[0, chosen]], near, near + FAR).tolist()
            uniform = torch.rand((), generator=self.generator, device=every.device)
            if float(uniform.log()) >= other - first:
                chosen = 0
        self.new = np.concatenate([self.new[~inside], self.notes(particles.events(chosen))])

    def particles(
        self, events: np.ndarray, start: float, end: float, kept: np.ndarray | None
    ) -> Particles:
        earlier = events["time"] < start - SAME_TIME
        between = earlier & (events["time"] >= self.region.start - SAME_TIME)
        context = events[events["time"] < self.region.start - SAME_TIME]
        since = float(context["time"][-1]) if len(context) else self.origin
        read = events[between]
        x_BLF = torch.from_numpy(self.reader.classes(read, since))[None]
        time_BL = torch.from_numpy(read["time"].copy())[None]
        _, cursor = self.reader.read(self.cursor, x_BLF.to(self.reader.model.device), time_BL)
        sounding = np.zeros(self.reader.model.spec.notes, bool)
        for event in events[earlier]:
            sounding[event["note"]] = event["velocity"] > 0
        before = (self.origin, -1)
        if earlier.any():
            last = events[earlier][-1]
            before = float(last["time"]), int(last["note"] + RELEASE_FIRST * (last["velocity"] > 0))
        block = Block(start, end, self.limit, self.at_A, self.low_A, self.high_A)
        return Particles(
            self.reader, cursor, before, sounding, events[~earlier], block, kept, PARTICLES,
            self.generator,
        )  # fmt: skip

    def notes(self, events: np.ndarray) -> np.ndarray:
        notes, open_note = [], {}
        for time, note, velocity in events.tolist():
            if velocity:
                open_note[note] = time, velocity
            else:
                start, started = open_note.pop(note)
                value = int(self.codec.velocities(np.array([started]))[0])
                notes.append((start, time, note + self.codec.pitch_range[0], value))
        return np.array(notes, NOTES)


@torch.inference_mode()
def infill_messages(
    model: LSTMMidi,
    notes: np.ndarray,
    region: Region,
    n: int,
    temperature: float,
    sweeps: int | None,
    metre: Metre,
    label: str | None,
    seed: int,
) -> list[np.ndarray]:
    """The pieces of `LSTMMidi.infill`."""
    checked = MessageRegion(model.codec, checked_notes(notes), region, metre.unit)
    number = label_of(model, checked.all, metre, label)
    reader = Reader(model, metre.bar, number, temperature)
    passes = 1 + (SWEEPS if sweeps is None else sweeps)
    inside = checked.region
    found: list[np.ndarray] = []
    progress = track(range(n * passes), "rewriting", "sweeps")
    for step in progress:
        chain, sweep = divmod(step, passes)
        if sweep == 0:
            generator = torch_stream(Stream.SAMPLING, seed, chain, device=model.device)
            gibbs = MessageGibbs(reader, checked, generator)

        def pieces(found: list[np.ndarray] = found, gibbs: MessageGibbs = gibbs) -> list[Any]:
            return [*found, checked.piece(gibbs.new, metre)]

        def after_step(time: float, step: int = step) -> None:
            part = np.clip((time - inside.start) / (inside.end - inside.start), 0, 1)
            report_step(int(PARTS * (step + part)), PARTS * n * passes, pieces)

        for start, end in blocks(model.codec, inside, sweep, gibbs.generator):
            gibbs.rewrite(start, end, sweep == 0, after_step)
        if sweep == passes - 1:
            found = pieces()
    return found


def blocks(
    codec: MessageCodec, region: Region, sweep: int, generator: Generator
) -> list[tuple[float, float]]:
    """The whole region in the first pass; later blocks, the first one of a random length."""
    if sweep == 0:
        return [(region.start, region.end)]
    lengths = BLOCK_LENGTHS[codec.in_beats]
    length = lengths[(sweep - 1) % len(lengths)]
    part = 1 - float(torch.rand((), generator=generator, device=generator.device))
    inner = np.arange(region.start + part * length, region.end - SAME_TIME, length)
    return list(pairwise([region.start, *inner.tolist(), region.end]))


def label_of(model: LSTMMidi, notes: np.ndarray, metre: Metre, label: str | None) -> int | None:
    """The class of the label, by default of that under which the piece is most probable."""
    labels = model.codec.labels
    if label is not None:
        return label_class(labels, label)
    if labels is None:
        return None
    nll = [float(-note_nll(model, notes, metre, k).sum()) for k in range(len(labels))]
    return int(np.argmax(nll))


def note_nll(model: LSTMMidi, notes: np.ndarray, metre: Metre, label: int | None) -> np.ndarray:
    """−log p of the onset of each note, in the codec's unit, in their order."""
    reader, codec = Reader(model, metre.bar, label, 1.0), model.codec
    events = events_of(codec, notes)
    first, bar = float(events["time"][0]), metre.bar / TICKS
    x_BLF = torch.from_numpy(
        reader.classes(events, first // bar * bar if codec.in_beats else first)
    )
    time_BL = torch.from_numpy(events["time"].copy())[None]
    log_p_BL, _ = reader.read(reader.start(), x_BLF[None].to(model.device), time_BL)
    onset = events["velocity"] > 0
    nll = -log_p_BL[0].cpu().numpy()[onset]
    # Onsets are in the order of (time, note), as the notes are.
    return nll


@torch.inference_mode()
def message_surprise(
    model: LSTMMidi, notes: np.ndarray, metre: Metre, label: str | None
) -> np.ndarray:
    """The array of `LSTMMidi.surprise`."""
    low, high = model.codec.pitch_range
    notes = checked_notes(notes)
    notes = notes[(notes["pitch"] >= low) & (notes["pitch"] < high)].view(np.ndarray)
    units = in_units(model.codec, notes, metre.unit)
    surprise = np.zeros(len(units), SURPRISE)
    if len(units):
        number = label_of(model, units, metre, label)
        for column in ("start", "end"):
            surprise[column] = units[column] * metre.unit
        surprise["pitch"], surprise["nll"] = units["pitch"], note_nll(model, units, metre, number)
    return surprise

"""What the page can ask for. Each request is a function; its annotations are what it accepts.

A function takes the JSON object of a request as its arguments, which are checked like the settings
of a command, and returns a piece of work for the worker thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from annotated_types import Interval

from musegen.constraints import BeatsPerMinute, NonNegativeInt, PositiveFloat, PositiveInt, Seed
from musegen.constraints import PositiveTemperature as Temperature
from musegen.models import Model
from musegen.specs import LabelledMessages
from musegen.studio import music, others
from musegen.studio.jobs import Job, Work
from musegen.studio.models import Catalogue, Kind
from musegen.studio.session import Session
from musegen.studio.settings import MAX_PIECES, checked, described
from musegen.studio.wire import MAX_SECONDS, notes_of, rows_of

Pitch = Annotated[int, Interval(ge=0, le=127)]
Time = Annotated[float, Interval(ge=0, le=MAX_SECONDS)]
Length = Annotated[float, Interval(gt=0, le=600)]
"""Seconds of new music."""
Count = Annotated[int, Interval(ge=1, le=MAX_PIECES)]
Sweeps = Annotated[int, Interval(ge=0, le=50)]
GibbsSteps = Annotated[int, Interval(ge=0, le=1000)]
KEPT = {
    "mid": "audio/midi",
    "wav": "audio/wav",
    "musicxml": "application/vnd.recordare.musicxml+xml",
    "png": "image/png",
}
"""The formats of kept files, and their media types."""


class Api:
    """The requests of a studio with these models and this session folder."""

    def __init__(self, catalogue: Catalogue, session: Session) -> None:
        self.catalogue, self.session = catalogue, session
        self.generating: dict[str, Callable[..., Work]] = {
            "generate": self.generate,
            "rewrite": self.rewrite,
            "surprise": self.surprise,
            "texts": self.texts,
            "letters": self.letters,
            "dissect": self.dissect,
            "gibbs": self.gibbs,
        }
        """Work with a model, by the last part of its address."""

    def models(self) -> list[dict[str, Any]]:
        """The list of models."""
        shown = ("key", "name", "text", "kind")
        return [{k: getattr(e, k) for k in shown} for e in self.catalogue.entries()]

    def model(self, key: str) -> dict[str, Any]:
        """A model's settings, and what the page has to know of it."""
        entry, model = self.catalogue.entry(key), self.catalogue.model(key)
        steps = music.seconds_per_step(model, 120) if entry.kind == "music" else None
        return {
            "key": key,
            "name": entry.name,
            "kind": entry.kind,
            "class": model.name,
            "settings": described(model),
            "labelled": isinstance(model.spec, LabelledMessages),
            "step_seconds": steps,
            "beats_per_frame": _beats_per_frame(model),
            **others.facts(model),
        }

    def filters(self, key: str) -> dict[str, Any]:
        """The filters of an RBM."""
        return others.filters(self.catalogue.model(key, "frames"))

    # --- Work with a model ------------------------------------------------------------------

    def generate(
        self,
        model: str,
        settings: dict[str, Any],
        notes: list[Any] | None = None,
        tempo: BeatsPerMinute = 120.0,
        seconds: Length | None = None,
    ) -> Work:
        """Generate pieces, or continue `notes`."""
        prime = notes_of(notes or [])

        def work(job: Job) -> dict[str, Any]:
            loaded = self._loaded(job, model, "music")
            values = checked(loaded, settings)
            return music.generate(job, loaded, self.session, values, prime, tempo, seconds)

        return work

    def rewrite(
        self,
        model: str,
        notes: list[Any],
        start: Time,
        end: Time,
        low: Pitch = 0,
        high: Pitch = 127,
        tempo: BeatsPerMinute = 120.0,
        n: Count = 1,
        temperature: Temperature = 1.0,
        sweeps: Sweeps | None = None,
        seed: Seed = 0,
        keep: Literal["none", "melody", "bass"] = "none",
        weak_beats: bool = False,
    ) -> Work:
        """Write a region of `notes` again."""
        piece = notes_of(notes)
        how = {"n": n, "temperature": temperature, "sweeps": sweeps, "seed": seed}
        region = music.Rewriting(start, end, low, high, keep, weak_beats)

        def work(job: Job) -> dict[str, Any]:
            loaded = self._loaded(job, model, "music")
            return music.rewrite(job, loaded, piece, tempo, region, dict(how))

        return work

    def surprise(self, model: str, notes: list[Any], tempo: BeatsPerMinute = 120.0) -> Work:
        """How improbable each note or frame is."""
        piece = notes_of(notes)
        return lambda job: music.surprise(self._loaded(job, model, "music"), piece, tempo)

    def texts(self, model: str, settings: dict[str, Any]) -> Work:
        """Generate texts."""

        def work(job: Job) -> dict[str, Any]:
            loaded = self._loaded(job, model, "text")
            return others.write_texts(job, loaded, checked(loaded, settings))

        return work

    def letters(self, model: str, text: str, label: str | None = None) -> Work:
        """The alternatives of each character of a text."""
        short = text[: others.MAX_TEXT]
        return lambda job: others.alternatives(self._loaded(job, model, "text"), short, label)

    def dissect(self, model: str, string: str, label: str | None = None) -> Work:
        """What a char_rnn computes while it reads a string."""
        return lambda job: others.look_into(self._loaded(job, model, "text"), string, label)

    def gibbs(
        self,
        model: str,
        visible: str,
        steps: GibbsSteps = 1,
        seed: Seed = 0,
        number: NonNegativeInt = 0,
    ) -> Work:
        """Steps of an RBM's Gibbs chain."""
        return lambda job: others.gibbs(
            self._loaded(job, model, "frames"), visible, steps, seed, number % 2**32
        )

    def _loaded(self, job: Job, key: str, kind: Kind) -> Model:
        job.check()
        return self.catalogue.model(key, kind)

    # --- Files ------------------------------------------------------------------------------

    def keep(
        self,
        notes: list[Any],
        format: Literal["mid", "wav", "musicxml", "png"],
        tempo: BeatsPerMinute = 120.0,
    ) -> Work:
        """Write a piece into the session folder. The result has its name, for `/kept/NAME`."""
        piece = notes_of(notes)
        return lambda job: {"name": self.session.keep(piece, tempo, f".{format}").name}

    def open(self, content: bytes) -> Work:
        """Read a MIDI file's bytes."""

        def work(job: Job) -> dict[str, Any]:
            notes, tempo = self.session.read(content)
            rows = rows_of(notes)
            notes_of(rows)  # as many notes, and as late, as any request may have
            return {"notes": rows, "tempo": tempo}

        return work


def _beats_per_frame(model: Model) -> float | None:
    """Quarter notes per frame, for a model of piano-rolls on a grid of beats."""
    per_beat: PositiveInt | PositiveFloat | None = getattr(model.codec, "frames_per_beat", None)
    return None if per_beat is None else 1 / per_beat

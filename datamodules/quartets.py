"""String quartets by Beethoven, Haydn and Mozart as message streams, with the composer as label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from datamodules.base import SPLITS, Availability, cache_folder
from datamodules.message_rows import MessageDataset, StreamSlice
from datamodules.message_streams import MidiFolder, Mozart
from datamodules.midi_files import in_parallel, midi_files
from datamodules.sources.music21_scores import CONVERTED, convert_composer, is_converted
from musegen.codecs.messages import MessageCodec
from musegen.constraints import check_arguments
from musegen.errors import UserError
from musegen.specs import LabelledMessageBatch, LabelledMessages

Composer = Literal["beethoven", "haydn", "mozart"]


class Quartets(MidiFolder):
    """The string quartets of music21's corpus, offline, written once to the cache as MIDI.

    Mozart's are the pieces of `data=mozart`: one of them is the beginning of a piano sonata.

    - composers: whose quartets; they are the labels.
    - codec: with labels, such as that of a checkpoint, it may have more labels than `composers`.

    The other settings are those of `MidiFolder`; `root` is not used. Each composer's pieces are
    split by themselves, so that every split has some of each, and Mozart's movements are in the
    same splits as in `data=mozart`. Raises `UserError` for no composer or a repeated one, and for
    one that a given codec lacks.
    """

    yields = (LabelledMessages,)
    licence = Mozart.licence

    @classmethod
    def availability(cls, **settings: Any) -> Availability:
        composers = settings.get("composers") or get_args(Composer)
        return Availability(CONVERTED, all(map(is_converted, composers)))

    @check_arguments
    def __init__(
        self,
        composers: tuple[Composer, ...] = ("beethoven", "haydn", "mozart"),
        codec: MessageCodec | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(codec=codec, **settings)
        if not composers or len(set(composers)) != len(composers):
            raise UserError(f"data.composers={list(composers)}: name each composer once")
        self.composers = composers
        labels = composers if codec is None or codec.labels is None else codec.labels
        if missing := [c for c in composers if c not in labels]:
            raise UserError(
                f"data.composers={missing[0]}: the labels of the given codec are {list(labels)}"
            )
        self.codec = replace(self.codec, labels=labels)

    def files(self) -> list[tuple[str, Path]]:
        """COMPOSER/WORK_MOVEMENT.mid and its path, of every movement."""
        found = []
        for composer in self.composers:
            folder = convert_composer(composer, cache_folder(self.cache_dir, composer), in_parallel)
            found += [(f"{composer}/{name}", path) for name, path in midi_files(folder)]
        return found

    def compute_split(
        self, names: Sequence[str], keys: Sequence[str], *settings: Any
    ) -> dict[str, list[int]]:
        merged: dict[str, list[int]] = {s: [] for s in SPLITS}
        for composer in self.composers:
            own = [i for i, name in enumerate(names) if _composer(name) == composer]
            split = super().compute_split(
                [names[i] for i in own], [keys[i] for i in own], *settings
            )
            for s in SPLITS:
                merged[s] += [own[i] for i in split[s]]
        return merged

    @property
    def labels(self) -> dict[str, list[int]]:
        """The label of each piece of a split, after `setup`."""
        names = self.codec.labels or ()
        return {s: [names.index(_composer(p.name)) for p in self.pieces[s]] for s in SPLITS}

    def describe(self) -> str:
        counts = Counter(_composer(p.name) for s in SPLITS for p in self.pieces[s])
        return f"{super().describe()}; " + ", ".join(f"{c} {n}" for c, n in sorted(counts.items()))

    def dataset(self, split: str) -> LabelledMessageDataset:
        last = self.loss_on == "last"
        labels = self.labels[split]
        return LabelledMessageDataset(labels, self.pieces[split], self.codec, self.window, last)


class LabelledMessageDataset(MessageDataset):
    """As `MessageDataset`, with the label of each row's piece; `labels` has one per piece."""

    def __init__(self, labels: list[int], *args: Any) -> None:
        super().__init__(*args)
        self.labels = labels

    def __getitems__(self, slices: list[StreamSlice]) -> LabelledMessageBatch:  # type: ignore[override]
        batch = super().__getitems__(slices)
        # An idle row has no predictions, so that its label does not matter.
        label_B = torch.tensor([self.labels[max(0, s.piece)] for s in slices])
        return LabelledMessageBatch(**batch._asdict(), label_B=label_B)


def _composer(name: str) -> str:
    return name.split("/")[0]

"""The models that the page offers: pretrained ones, and the runs of a folder.

A client names an entry of this list. It never sends a path.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal, NamedTuple

from musegen.config import listing
from musegen.config.runs import load_run_config
from musegen.config.signatures import target_of
from musegen.errors import UserError
from musegen.models import MODELS, Model
from musegen.sharing.folder import read_config
from musegen.sharing.locate import PRETRAINED, load, locate, pretrained
from musegen.specs import Frames, LabelledMessages, LabelledTokens, Messages, Rolls, Tokens

Kind = Literal["music", "frames", "text"]
KINDS: tuple[tuple[tuple[type, ...], Kind], ...] = (
    ((Rolls, Messages, LabelledMessages), "music"),
    ((Frames,), "frames"),
    ((Tokens, LabelledTokens), "text"),
)
MAX_LOADED = 4
"""Models that stay in memory."""


class Entry(NamedTuple):
    """A model in the list: its key, what `load` takes, and what the page shows."""

    key: str
    run: str
    name: str
    text: str
    kind: Kind


def kind_of(cls: type[Model]) -> Kind:
    """What a class of models makes. Raises `UserError` for anything that the studio cannot show."""
    for specs, kind in KINDS:
        if set(cls.reads) & set(specs):
            return kind
    raise UserError(f"{cls.name}: the studio shows music, frames and texts only")


class Catalogue:
    """The list of models, and those that are loaded.

    - run: one more entry, which is the first: a run folder, a checkpoint, hf:USER/NAME.
    - runs: the folder in which runs are searched, each time that the list is asked for.
    """

    def __init__(self, run: str | None, runs: Path) -> None:
        self.runs = runs
        self._fixed = [_pretrained(name) for name in pretrained()]
        self._found: dict[str, Entry] = {}  # as the list was shown last
        self._loaded: OrderedDict[str, Model] = OrderedDict()
        self._lock = threading.Lock()
        if run is not None:
            self._add(run)

    def _add(self, run: str) -> None:
        if run in pretrained() and locate(run) == PRETRAINED / run:
            self._fixed.sort(key=lambda entry: entry.key != run)
            return
        self._loaded["run"] = model = load(run)
        text = f"{model.name}, given as run="
        entry = Entry("run", run, Path(run).name or run, text, kind_of(type(model)))
        self._fixed.insert(0, entry)

    def entries(self) -> list[Entry]:
        """All models that there are now."""
        given = {Path(e.run).absolute() for e in self._fixed if e.key == "run"}
        runs = [_of_run(found, self.runs) for found in listing.runs(self.runs)]
        others = [e for e in runs if e is not None and Path(e.run).absolute() not in given]
        entries = [*self._fixed, *others]
        self._found = {entry.key: entry for entry in entries}
        return entries

    def entry(self, key: str) -> Entry:
        """The entry of this key. Raises `UserError` if the list has none."""
        if key not in self._found:
            self.entries()
        if key not in self._found:
            raise UserError(f"model={key}: not in the list of models; reload the page")
        return self._found[key]

    def model(self, key: str, kind: Kind | None = None) -> Model:
        """The loaded model of an entry. Raises `UserError` if it is of another kind."""
        entry = self.entry(key)
        if kind not in (None, entry.kind):
            raise UserError(f"model={key}: a model of {entry.kind}, but this needs one of {kind}")
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = load(entry.run)
                while len(self._loaded) > MAX_LOADED:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(key)
            return self._loaded[key]


def _pretrained(name: str) -> Entry:
    config = read_config(PRETRAINED / name)
    data = config["data"].get("name") or config["data"]["_target_"].rpartition(".")[2]
    kind = kind_of(MODELS[config["model_type"]])
    return Entry(name, name, name, f"{config['model_type']} on {data}, pretrained", kind)


def _of_run(found: listing.Entry, runs: Path) -> Entry | None:
    """The entry of a run with a checkpoint; None if there is none, or of another kind."""
    folder = Path(found.name)
    try:
        locate(folder)
        config: dict[str, Any] = load_run_config(folder / "config.yaml")
        kind = kind_of(target_of(config["model"], "model"))
    except UserError:
        return None
    key = f"runs:{folder.relative_to(runs).as_posix()}"
    return Entry(key, str(folder), folder.name, found.text, kind)

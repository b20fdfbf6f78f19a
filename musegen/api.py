"""Training and evaluation from Python: in a notebook, without Hydra and without a command line."""

from __future__ import annotations

import html
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Generator

from musegen.cli.console import quiet
from musegen.cli.train import run as run_settings
from musegen.cli.usage import value_text
from musegen.config.error_messages import as_user_error
from musegen.config.groups import CONF, GROUPS, config_choices
from musegen.config.instantiation import instantiate
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.constraints import NonNegativeInt, Seed, check_arguments
from musegen.errors import UserError, unknown_name
from musegen.metrics.accuracy import frame_accuracy
from musegen.metrics.roll_evaluation import SAMPLES, PieceFrames, pooled
from musegen.models import Model
from musegen.models.base import import_path
from musegen.render.report import REPORT
from musegen.runtime.random_streams import Stream, torch_stream
from musegen.sharing.locate import load

LogProb = Callable[[np.ndarray], Any]
Sample = Callable[[np.ndarray, int, Generator], Any]


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, and the best score of the monitored metric."""

    folder: Path
    score: float

    @cached_property
    def model(self) -> Model:
        """The model with its best weights, on the CPU."""
        return load(self.folder)

    @property
    def metrics(self) -> dict[str, float]:
        """The test metrics, those of the baselines included."""
        return dict(json.loads((self.folder / "test.json").read_text(encoding="utf-8")))

    @property
    def report(self) -> Path:
        """The report page."""
        return self.folder / REPORT

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{value:.4g}</td></tr>"
            for name, value in self.metrics.items()
            if value is not None
        )
        link = f'<a href="{self.report.absolute().as_uri()}">{html.escape(str(self.report))}</a>'
        return f"<table>{rows}</table>{link}"


def train(
    model: str | Model,
    data: Any,
    folder: str | Path | None = None,
    settings: dict[str, Any] | None = None,
    **trainer: Any,
) -> Run:
    """Train, test, sample and write the report, as `musegen train` does.

        run = musegen.train("lstm_midi", "mozart", max_epochs=5)
        run = musegen.train("rnn_rbm", "jsb", settings={"model.hidden": 200, "seed": 2})
        run = musegen.train(MyModel(data.spec, data.codec), data, max_epochs=5)
        run.model.generate(n=1)[0]

    - model, data: names as in `musegen list`, or objects of your own: a `musegen.Model`, and a
      data module with a `spec`. An object keeps its own settings, a model also its `optimizer`.
    - folder: the run folder; by default a new one below runs/.
    - settings: any other settings by their names on the command line.
    - trainer: settings of the trainer, such as max_epochs, gpus and precision.

    Raises `UserError` for what the command would refuse, with the same text, and
    `KeyboardInterrupt` if the training is interrupted; the run can then be resumed.
    """
    given = {f"trainer.{name}": value for name, value in trainer.items()} | (settings or {})
    objects = {
        group: value
        for group, value in (("model", model), ("data", data))
        if not isinstance(value, str)
    }
    if not isinstance(data, str) and not hasattr(data, "spec"):
        raise UserError(f"data={type(data).__name__}: has no spec; use a pytorch_lightning.Trainer")
    choices = {"model": model, "data": data}
    names = {g: v if isinstance(v, str) else type(v).__name__ for g, v in choices.items()}
    when = time.strftime("%Y-%m-%d_%H-%M-%S")
    target = Path(folder or Path("runs") / f"{names['model']}-{names['data']}" / when)
    with warnings.catch_warnings():
        quiet()
        try:
            resolved = _resolved(target.expanduser(), choices, objects, given)
            built = (objects.get("model"), objects.get("data"))
            return Run(target, run_settings(resolved, (), *built))
        except SystemExit as end:
            raise KeyboardInterrupt(f"the training was stopped; its run is {target}") from end
        except Exception as e:
            problem = None if isinstance(e, UserError) else as_user_error(e)
            if problem is None:
                raise
            raise problem from e


def _resolved(
    folder: Path, choices: dict[str, Any], objects: dict[str, Any], given: dict[str, Any]
) -> dict[str, Any]:
    """The checked config of a run; the nodes of objects say which class they have."""
    model = objects.get("model")
    groups = {g: v for g, v in choices.items() if g not in objects}
    if model is not None and model.name in config_choices("model"):
        groups["model"] = model.name  # its previews and callbacks
    groups |= {k: v for k, v in given.items() if k in GROUPS}
    overrides = [f"{group}={name}" for group, name in groups.items()]
    cfg = compose_config([*overrides, f"run_dir={folder}"])
    if model is not None and "model" not in groups:
        OmegaConf.update(cfg, "preview", {}, merge=False)
    for group, value in objects.items():
        OmegaConf.update(cfg, group, _node(value), merge=False)
    for key, value in given.items():
        if key not in GROUPS:
            plain = str(value) if isinstance(value, Path) else value
            OmegaConf.update(cfg, key, plain, force_add=True)
            overrides.append(f"{key}={value_text(value)}")
    resolved = resolve_config(cfg, model, objects.get("data"))
    return resolved | {"overrides": overrides}


def _node(value: Any) -> dict[str, Any]:
    """What the config of a run says about an object: its class, and the settings of a model."""
    node: dict[str, Any] = {"_target_": import_path(type(value))}
    if isinstance(value, Model):
        saved = ("name", "import_path", "musegen_version", "spec", "codec")
        node |= {str(k): v for k, v in value.hparams.items() if k not in saved}
    return node


@check_arguments
def evaluate_rolls(
    log_prob: Any,
    sample: Any = None,
    data: Any = "jsb",
    split: Literal["train", "val", "test"] = "test",
    samples: NonNegativeInt = SAMPLES,
    seed: Seed = 0,
    settings: dict[str, Any] | None = None,
) -> dict[str, float]:
    """Log-likelihood and accuracy of anyone's model on whole pieces, under the ICML 2012 protocol.

        musegen.evaluate_rolls(log_prob, sample, data="jsb")

    - log_prob: a function of a piece x (T, D) of 0 and 1 (float32, columns are MIDI pitches from 21
      on) that returns log p of each frame given the frames before it, (T,), in nats.
    - sample: a function of (x, n, generator) that returns n samples of each frame given the true
      frames before it, (n, T, D), of 0 and 1; None leaves out the accuracy.
    - data: a name (jsb, nottingham, piano_midi, musedata, …) or a data module of rolls.
    - split, samples, seed: which pieces, the samples of each frame, and the seed of `generator`.
    - settings: of the data set, e.g. {"root": "my/files"}.

    All frames count equally, the first ones of the pieces included: `log_likelihood` in nats per
    frame, `log_likelihood_error` (its standard error over pieces), `frames`, and `accuracy`, the
    mean of TP / max(notes, sampled notes), a fraction. Raises `UserError` for results of another
    shape, and for log-probabilities that are not finite.
    """
    rolls = _rolls(data, split, settings or {})
    generator = torch_stream(Stream.ASSESSMENT, seed)
    pieces = []
    for i, roll_TD in enumerate(rolls):
        x_TD = roll_TD.astype(np.float32)
        log_prob_T = _array(log_prob(x_TD), f"log_prob of piece {i}", (len(x_TD),))
        if not np.isfinite(log_prob_T).all():
            raise UserError(f"log_prob of piece {i}: has values that are not finite")
        accuracy_T = None
        if sample is not None and samples:
            size = (samples, *x_TD.shape)
            drawn_STD = _array(sample(x_TD, samples, generator), f"sample of piece {i}", size)
            drawn = torch.from_numpy(drawn_STD)
            accuracy_T = frame_accuracy(torch.from_numpy(x_TD), drawn).double().numpy()
        pieces.append(PieceFrames(x_TD, log_prob_T, accuracy_T))
    return pooled(pieces)


def _rolls(data: Any, split: str, settings: dict[str, Any]) -> list[np.ndarray]:
    if isinstance(data, str):
        if data not in config_choices("data"):
            raise unknown_name(f"data={data}", data, config_choices("data"), "data config")
        node = OmegaConf.to_container(OmegaConf.load(CONF / "data" / f"{data}.yaml"))
        assert isinstance(node, dict)
        name, data = data, instantiate({**{str(k): v for k, v in node.items()}, **settings}, "data")
        if not hasattr(data, "rolls"):
            raise UserError(f"data={name}: has no piano-rolls; use jsb, nottingham or another set")
    data.prepare_data()
    data.setup()
    return list(data.rolls[split])


def _array(values: Any, what: str, shape: tuple[int, ...]) -> np.ndarray:
    tensor = values.detach().cpu() if isinstance(values, torch.Tensor) else values
    array = np.asarray(tensor, dtype=np.float64)
    if array.shape != shape:
        raise UserError(f"{what}: has shape {array.shape}, should have {shape}")
    return array

"""Where figures and samples go: the run folder's CSV, TensorBoard, Weights & Biases."""

from __future__ import annotations

import csv
import itertools
import wave
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import matplotlib.image
import numpy as np
import torch
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from musegen.atomic import replacing
from musegen.contracts import UserError


class Look(NamedTuple):
    """What a model made at one moment of its training, or after it.

    - files: pictures (.png), sounds (.wav) and scores (.mid) in the run folder; the stem of the
      name says which sample it is.
    - texts: strings, each with its label in front where there are labels.
    - final: made after training by the best weights. Loggers keep these under names of their
      own, since they are other pieces than the previews, and longer.
    """

    epoch: int
    step: int
    files: Sequence[Path] = ()
    texts: Sequence[tuple[str, ...]] = ()
    final: bool = False

    def of(self, suffix: str) -> list[Path]:
        """The files of one kind."""
        return [path for path in self.files if path.suffix == suffix]

    def named(self, kind: str) -> str:
        """What loggers file it under."""
        return f"final/{kind}" if self.final else kind

    @property
    def moment(self) -> str:
        """The alias of its artifacts."""
        return "final" if self.final else f"epoch_{self.epoch}"

    @property
    def columns(self) -> list[str]:
        """Headings for `texts`."""
        return ["label", "text"] if len(self.texts[0]) == 2 else ["text"]


@runtime_checkable
class Shows(Protocol):
    """A logger that has a form for samples."""

    def show(self, look: Look) -> None: ...


@runtime_checkable
class Rewinds(Protocol):
    """A logger that can take back what an interrupted run wrote after its last checkpoint."""

    def rewind(self, step: int, rows: int) -> None:
        """Back to when `step` updates had been made, and `rows` rows written."""


class CSV(CSVLogger):
    """`folder/metrics.csv`, a row for every moment that something was logged."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="")
        self.rewound: int | None = None
        self._table: Table | None = None

    def rewind(self, step: int, rows: int) -> None:
        self.rewound = rows

    @property
    @rank_zero_experiment
    def experiment(self) -> Table:
        if self._table is None:
            self._table = self._experiment = Table(Path(self.log_dir), self.rewound)
        return self._table

    def rows(self) -> int:
        """Rows in the file, all that was logged among them."""
        self.save()
        return self.experiment.rows


class Table(ExperimentWriter):
    """The file itself: begun anew, or gone on with after its first `kept` rows."""

    def __init__(self, folder: Path, kept: int | None) -> None:
        self.kept, self.rows = kept or 0, 0
        super().__init__(str(folder))

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if not path.exists():
            return
        with path.open(newline="") as file:
            table = csv.DictReader(file)
            rows = list(itertools.islice(table, self.kept))
        if not rows:
            path.unlink()
            return
        self.metrics_keys, self.rows = list(table.fieldnames or []), len(rows)
        self._write(rows, self.metrics_keys)

    def save(self) -> None:
        self.rows += len(self.metrics)
        try:
            super().save()
        except OSError as e:
            raise UserError(
                f"{self.metrics_file_path}: cannot be written ({e.strerror}); the last checkpoint "
                "is whole"
            ) from e

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with open(self.metrics_file_path, newline="") as file:
            rows = list(csv.DictReader(file))
        self._write(rows, fieldnames)

    def _write(self, rows: list[dict[str, Any]], names: list[str]) -> None:
        with replacing(Path(self.metrics_file_path), newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)


class TensorBoard(TensorBoardLogger):
    """TensorBoard's event files in `folder/tensorboard`; scores stay in the run folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="tensorboard", default_hp_metric=False)

    def rewind(self, step: int, rows: int) -> None:
        # TensorBoard then leaves out what an earlier file says of these steps.
        self._kwargs["purge_step"] = step

    @rank_zero_only
    def show(self, look: Look) -> None:
        board = self.experiment
        for path in look.of(".png"):
            picture_HWC = matplotlib.image.imread(path)[..., :3]
            tag = look.named(f"pictures/{path.stem}")
            board.add_image(tag, picture_HWC, look.step, dataformats="HWC")
        for path in look.of(".wav"):
            with wave.open(str(path)) as file:
                sound = np.frombuffer(file.readframes(file.getnframes()), "<i2")
                rate = file.getframerate()
            samples = torch.from_numpy(sound / np.float32(2**15))
            board.add_audio(look.named(f"audio/{path.stem}"), samples, look.step, rate)
        if look.texts:
            rows = [look.columns, ["---"] * len(look.columns), *look.texts]
            table = "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)
            board.add_text(look.named("texts"), table, look.step)
        board.flush()  # after training nobody else does


def _cell(text: str) -> str:
    """Text inside a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", "<br>")


class WandB(WandbLogger):
    """A Weights & Biases run. One run folder is one W&B run: a resumed run continues its own.

    - mode: `online` needs a key, `offline` neither account nor network; `wandb sync` brings an
      offline run online.
    - project, entity, group, tags, name, notes: as in `wandb.init`; the name is by default the
      end of the run folder's path.
    - log_model: keep the best and the last checkpoint as an artifact, offline too.

    Raises `UserError` where online has no key or the server does not take it.
    """

    def __init__(
        self,
        folder: Path,
        mode: Literal["online", "offline"] = "online",
        project: str = "musegen",
        entity: str | None = None,
        group: str | None = None,
        tags: tuple[str, ...] = (),
        name: str | None = None,
        notes: str | None = None,
        log_model: bool = False,
    ) -> None:
        # A W&B run's folder is named …run-TIME-ID.
        earlier = next(iter(Path(folder).glob("wandb/*run-*-*")), None)
        super().__init__(
            name or "/".join(Path(folder).parts[-2:]),
            save_dir=folder,
            id=earlier.name.rsplit("-", 1)[1] if earlier else None,
            project=project,
            # Lightning's own `offline` would stay in the environment for the jobs to come, and
            # its `log_model` refuses to be offline.
            mode=mode,
            entity=entity,
            group=group,
            tags=list(tags),
            notes=notes,
        )
        # Lightning passes it on even where nobody set it, and W&B warns that it does nothing.
        self._wandb_init.pop("anonymous", None)
        self.folder, self.keeps_checkpoints = Path(folder), log_model
        if mode == "online":
            _log_in()

    @rank_zero_only
    def show(self, look: Look) -> None:
        import wandb

        media: dict[str, object] = {}
        for path in look.of(".png"):
            media[look.named(f"pictures/{path.stem}")] = wandb.Image(str(path))
        for path in look.of(".wav"):
            media[look.named(f"audio/{path.stem}")] = wandb.Audio(str(path))
        if look.texts:
            rows = [list(row) for row in look.texts]
            media[look.named("texts")] = wandb.Table(columns=list(look.columns), data=rows)
        self.log_metrics(media, look.step)  # type: ignore[arg-type]
        # W&B has no form for MIDI.
        self._keep("midi", "samples", look.of(".mid"), look.moment)

    @rank_zero_only
    def finish(self, exit_code: int) -> None:
        """End the W&B run, if it has begun, so that the next job of a sweep begins one of its own.

        What is not a success is recorded as a failure with this exit code.
        """
        if self._experiment is None:
            return
        try:
            if self.keeps_checkpoints:
                paths = sorted((self.folder / "checkpoints").glob("*.ckpt"))
                self._keep("checkpoints", "model", paths, "final")
        finally:
            self.experiment.finish(exit_code)
            self._experiment = None

    def _keep(self, name: str, kind: str, files: Sequence[Path], alias: str) -> None:
        """Log files as a version of this run's artifact of that name."""
        import wandb

        if not files:
            return
        artifact = wandb.Artifact(f"{name}-{self.experiment.id}", kind)
        for path in files:
            artifact.add_file(str(path))
        self.experiment.log_artifact(artifact, aliases=[alias])


def _log_in() -> None:
    import wandb

    try:
        known = wandb.login(prompt=False)
    except wandb.Error as e:
        raise UserError(
            f"logger.wandb: {' '.join(str(e).split())}; mend WANDB_API_KEY or the network, or type "
            "logger.wandb.mode=offline"
        ) from e
    if not known:
        raise UserError(
            "logger.wandb: no key; set WANDB_API_KEY, run `wandb login`, or type "
            "logger.wandb.mode=offline"
        )


def show(loggers: Iterable[Logger], look: Look) -> None:
    """Show a look to every logger that has a form for it."""
    for logger in loggers:
        if isinstance(logger, Shows):
            logger.show(look)


@contextmanager
def finishing(loggers: Iterable[Logger]) -> Iterator[None]:
    """Tell the W&B run at the end how it ended: 0, or the exit code of the failure."""
    code = 1
    try:
        yield
        code = 0
    except KeyboardInterrupt:
        code = 130
        raise
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
        raise
    finally:
        for logger in loggers:
            if isinstance(logger, WandB):
                logger.finish(code)

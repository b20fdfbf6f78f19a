"""Trackio runs: a tracker on this computer, or in a Space of the Hugging Face Hub."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from musegen.errors import UserError
from musegen.runtime.atomic import write_text
from musegen.training.lightning_compat import flat_parameters
from musegen.training.loggers.media import MediaLog


class Trackio(Logger):
    """A Trackio run, in SQLite files on this computer; `trackio show` opens the dashboard.

    A resumed run continues its own. The files are in TRACKIO_DIR, or else in the cache of the
    Hugging Face Hub.

    - project, name, group: as in `trackio.init`; the default name is the end of the run folder's
      path.
    - space_id: the Space USER/NAME of the Hugging Face Hub to log to; null logs to this computer.

    Raises `UserError` without trackio.
    """

    def __init__(
        self,
        folder: Path,
        project: str = "musegen",
        name: str | None = None,
        group: str | None = None,
        space_id: str | None = None,
    ) -> None:
        super().__init__()
        try:
            import trackio
        except ModuleNotFoundError as e:
            raise UserError("logger=trackio needs trackio: pip install 'musegen[trackio]'") from e
        self.trackio = trackio
        self.settings: dict[str, Any] = {"project": project, "group": group, "space_id": space_id}
        self.run_name = name or "/".join(Path(folder).parts[-2:])
        self.name_file = Path(folder) / "trackio_run.txt"
        self._run: Any = None

    @property
    def name(self) -> str:
        return self.run_name

    @property
    def version(self) -> str:
        return self.run_name

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The Trackio run."""
        if self._run is None:
            resumed = self.name_file.is_file()
            self._run = self.trackio.init(
                name=self.name_file.read_text("utf-8") if resumed else self.run_name,
                resume="allow" if resumed else "never",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
                **self.settings,
            )
            write_text(self.name_file, self._run.name)
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        self.experiment.config.update(flat_parameters(params))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def log_media(self, media: MediaLog) -> None:
        logged: dict[str, Any] = {}
        for path in media.with_suffix(".png"):
            logged[media.named(f"pictures/{path.stem}")] = self.trackio.Image(path)
        for path in media.with_suffix(".wav"):
            logged[media.named(f"audio/{path.stem}")] = self.trackio.Audio(path)
        if media.texts:
            rows = [list(row) for row in media.texts]
            logged[media.named("texts")] = self.trackio.Table(columns=media.columns, data=rows)
        self.log_metrics(logged, media.step)
        for path in media.with_suffix(".mid"):
            name = f"{media.moment}-{path.stem}.mid"
            self.experiment.log_artifact(str(path), name=name, type="midi")

    @rank_zero_only
    def finish(self, exit_code: int) -> None:
        """End the Trackio run if it has started. Trackio records no exit code."""
        if self._run is not None:
            self.trackio.finish()
            self._run = None

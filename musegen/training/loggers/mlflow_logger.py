"""MLflow runs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import requests
from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.utilities import rank_zero_only

from musegen.errors import UserError
from musegen.runtime.atomic import write_text
from musegen.training.lightning_compat import flat_parameters, mlflow_has_started
from musegen.training.loggers.media import MediaLog

STATUS = {0: "FINISHED", 130: "KILLED"}
"""The status of a run by its exit code; any other is FAILED."""
ANSWER_SECONDS = 10.0
"""A server that takes longer to answer before the training is refused."""


class MLflow(MLFlowLogger):
    """An MLflow run. One run folder is one MLflow run: a resumed run continues its own.

    - tracking_uri: a database such as sqlite:///mlflow.db, or the address of a server. The
      default is MLFLOW_TRACKING_URI, or else mlflow.db in the folder that the run starts from;
      `mlflow ui` shows both.
    - experiment, name, tags: as in MLflow; the default name is the end of the run folder's path.
    - log_model: keep the best and the last checkpoint as artifacts.

    Raises `UserError` without mlflow, and if the server does not answer.
    """

    def __init__(
        self,
        folder: Path,
        tracking_uri: str | None = None,
        experiment: str = "musegen",
        name: str | None = None,
        tags: dict[str, str] | None = None,
        log_model: bool = False,
    ) -> None:
        uri = tracking_uri or "sqlite:///mlflow.db"
        if uri.startswith(("http://", "https://")):
            _check_server(uri)
        self.folder, self.keeps_checkpoints = Path(folder), log_model
        self.id_file = self.folder / "mlflow_run_id.txt"
        try:
            super().__init__(
                experiment,
                name or "/".join(self.folder.parts[-2:]),
                uri,
                dict(tags or {}),
                run_id=self.id_file.read_text("utf-8") if self.id_file.is_file() else None,
            )
        except ModuleNotFoundError as e:
            raise UserError("logger=mlflow needs mlflow: pip install 'musegen[mlflow]'") from e

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log the config; a resumed run keeps the values with which it started.

        MLflow refuses other values.
        """
        flat = flat_parameters(params)
        known = self.experiment.get_run(self.run_id).data.params
        super().log_hyperparams({k: v for k, v in flat.items() if k not in known})
        write_text(self.id_file, str(self.run_id))

    @rank_zero_only
    def log_media(self, media: MediaLog) -> None:
        for kind, suffix in (("pictures", ".png"), ("audio", ".wav"), ("midi", ".mid")):
            for path in media.with_suffix(suffix):
                self._keep(path, f"{media.moment}/{kind}")
        if media.texts:
            columns = zip(*media.texts, strict=True)
            table = {k: list(v) for k, v in zip(media.columns, columns, strict=True)}
            self.experiment.log_table(self.run_id, table, f"{media.moment}/texts.json")

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Nothing: the run ends with `finish`, after the test and the samples."""

    @rank_zero_only
    def finish(self, exit_code: int) -> None:
        """End the MLflow run if it has started; any exit code but 0 and Ctrl-C's is a failure."""
        if not mlflow_has_started(self):
            return
        if self.keeps_checkpoints:
            for path in sorted((self.folder / "checkpoints").glob("*.ckpt")):
                self._keep(path, "checkpoints")
        self.experiment.set_terminated(self.run_id, STATUS.get(exit_code, "FAILED"))

    def _keep(self, path: Path, folder: str) -> None:
        self.experiment.log_artifact(self.run_id, str(path), folder)


def _check_server(uri: str) -> None:
    """Raise `UserError` unless the server answers. MLflow itself would try for minutes."""
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS).raise_for_status()
    except requests.RequestException as e:
        raise UserError(
            f"logger.mlflow.tracking_uri={uri}: no MLflow server answers there "
            f"({type(e).__name__}); start it, or correct the address"
        ) from e

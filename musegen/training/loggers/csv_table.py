"""The run folder's metrics.csv."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment

from musegen.errors import UserError
from musegen.runtime.atomic import replacing


class CSV(CSVLogger):
    """`folder/metrics.csv`, a row for every moment that something was logged."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="")
        self.kept_rows: int | None = None
        self._table: Table | None = None

    def truncate(self, step: int, rows: int) -> None:
        self.kept_rows = rows

    @property
    @rank_zero_experiment
    def experiment(self) -> Table:
        if self._table is None:
            self._table = self._experiment = Table(Path(self.log_dir), self.kept_rows)
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

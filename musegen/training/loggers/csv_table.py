"""The run folder's metrics.csv."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment

from musegen.errors import UserError
from musegen.runtime.atomic import replacing
from musegen.training.lightning_compat import MetricsWriter, set_experiment


class CSV(CSVLogger):
    """`folder/metrics.csv`, with one row for each moment at which something was logged.

    A resumed run keeps the rows up to its checkpoint, see `truncate`.
    """

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
            self._table = Table(Path(self.log_dir), self.kept_rows)
            set_experiment(self, self._table)
        return self._table

    def rows(self) -> int:
        """The number of rows in the file, after everything logged so far was written."""
        self.save()
        return self.experiment.rows


class Table(MetricsWriter):
    """The file itself. An existing file keeps its first `kept_rows` rows and loses the others."""

    def __init__(self, folder: Path, kept_rows: int | None) -> None:
        self.kept_rows, self.rows = kept_rows or 0, 0
        super().__init__(str(folder))

    def prepare_file(self) -> None:
        path = Path(self.metrics_file_path)
        if not path.exists():
            return
        with path.open(newline="") as file:
            table = csv.DictReader(file)
            rows = list(itertools.islice(table, self.kept_rows))
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
                "is complete"
            ) from e

    def change_columns(self, columns: list[str]) -> None:
        with open(self.metrics_file_path, newline="") as file:
            rows = list(csv.DictReader(file))
        self._write(rows, columns)

    def _write(self, rows: list[dict[str, Any]], columns: list[str]) -> None:
        with replacing(Path(self.metrics_file_path), newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

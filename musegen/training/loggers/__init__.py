"""The loggers of metrics and samples: CSV, TensorBoard, Weights & Biases, MLflow, Trackio."""

from __future__ import annotations

from musegen.training.loggers.csv_table import CSV
from musegen.training.loggers.mlflow_logger import MLflow
from musegen.training.loggers.tensorboard_logger import TensorBoard
from musegen.training.loggers.trackio_logger import Trackio
from musegen.training.loggers.wandb_logger import WandB

__all__ = ["CSV", "MLflow", "TensorBoard", "Trackio", "WandB"]

"""The loggers of metrics and samples: CSV in the run folder, TensorBoard, Weights & Biases."""

from __future__ import annotations

from musegen.training.loggers.csv_table import CSV
from musegen.training.loggers.tensorboard_logger import TensorBoard
from musegen.training.loggers.wandb_logger import WandB

__all__ = ["CSV", "TensorBoard", "WandB"]

"""Where metrics and samples go: the run folder's CSV, TensorBoard, Weights & Biases."""

from __future__ import annotations

from musegen.training.loggers.csv_table import CSV
from musegen.training.loggers.tensorboard_logger import TensorBoard
from musegen.training.loggers.wandb_logger import WandB

__all__ = ["CSV", "TensorBoard", "WandB"]

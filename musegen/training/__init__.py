"""Training: the trainer, optimizers, callbacks, loggers and checkpoint files."""

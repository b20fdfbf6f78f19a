"""Lightning callbacks: progress lines, samples, checkpoints, pre-training, RBM metrics."""

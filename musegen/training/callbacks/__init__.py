"""What happens beside training: progress, samples, checkpoints."""

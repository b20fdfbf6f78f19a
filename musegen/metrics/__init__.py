"""Metrics of a model: likelihoods, accuracies, and metrics of its samples."""

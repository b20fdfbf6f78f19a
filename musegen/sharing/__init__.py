"""Trained models outside a run folder: a format without pickles, pretrained models, the Hub."""

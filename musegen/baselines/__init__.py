"""Simple models of the same data, whose test metrics are printed next to a model's."""

"""From the command line to checked settings to objects: Hydra composes, this package checks."""

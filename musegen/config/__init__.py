"""Command line → checked settings → objects. Hydra composes; this package checks and builds."""

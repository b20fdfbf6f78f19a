"""Processes, signals, files and progress: what depends on the system and on nothing musical."""

"""Output for people: plots, audio, samples as files, and the report page."""

"""Where files come from: downloads, archives, file formats and music21's corpus."""

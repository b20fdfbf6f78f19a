"""Data sets: everything that opens a data file or knows a URL, a split or a worker process."""

"""Data sets on disk: which there are (`list`), whether they are whole (`check`), and how they get there (`fetch`)."""

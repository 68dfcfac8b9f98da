"""The commands of `python -m training`, one file each: their options, and the work they start."""

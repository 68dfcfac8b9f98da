"""Weight files: our own, those of other programs, and files that only look like weights."""

"""The models of a folder: which there are, which are in memory, and who uses them. No torch, no HTTP."""

"""The models of a folder: which exist, which are in memory, and which are in use. Imports neither torch nor HTTP."""

"""API keys, their rights and their limits. Does not import HTTP."""

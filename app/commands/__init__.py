"""Commands of `python -m app` that work without a server."""

"""Shares one device among the jobs of all requests."""

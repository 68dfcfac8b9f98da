"""Endpoints, one module per group."""

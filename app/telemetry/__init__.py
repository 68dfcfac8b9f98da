"""Logs, metrics and traces: observers of the request record."""

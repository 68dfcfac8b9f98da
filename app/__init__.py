"""The service: HTTP in, PNG out."""

"""The service: HTTP in, PNG out."""

VERSION = "0.1.0"

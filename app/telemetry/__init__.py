"""What the service tells of itself: one record a request, which logs, metrics and traces are made of."""

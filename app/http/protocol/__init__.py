"""HTTP/1.1 on the socket: connections and their limits, below the ASGI application."""

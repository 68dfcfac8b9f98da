"""HTTP: connections (`protocol`), ASGI middleware (`middleware`), endpoints (`endpoints`) and shared modules."""

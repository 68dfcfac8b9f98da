"""HTTP: connections (`protocol`), ASGI middleware (`middleware`), endpoints (`endpoints`) and what they share."""

"""The service of `tests/app`, on a port."""

from tests.app.conftest import anyio_backend, engine, folder, life, live, loader, make, models, service, settings

__all__ = ["anyio_backend", "engine", "folder", "life", "live", "loader", "make", "models", "service", "settings"]

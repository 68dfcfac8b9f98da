"""The service of `tests/app`, on a port."""

from tests.app.conftest import engine, folder, life, live, loader, make, models, service, settings

__all__ = ["engine", "folder", "life", "live", "loader", "make", "models", "service", "settings"]

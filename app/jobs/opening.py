"""Open the database, store and secrets of the jobs from the settings.

A `SettingsError` is permanent; `Unavailable` means that the database, the store or the disk may be back later.
"""

import asyncio
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from app.errors import StorageFull
from app.jobs.database import Database
from app.jobs.folder import FolderStore
from app.jobs.job import new_job_id
from app.jobs.schema import SchemaError
from app.jobs.sqlite import SqliteDatabase, check_file
from app.jobs.store import Store, StoreDown, one
from app.jobs.webhooks import WebhookSecrets
from app.settings import Settings, SettingsError

DATABASE = "jobs.sqlite"
FILES = "files"
SECRETS = "webhook-secrets"

CHECK_S = 20.0
"""Maximum time to write a small file into the store and delete it."""

PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE})
"""Errors that may pass: opening is tried again."""


class OtherTables(SettingsError):
    """The tables belong to another version of the service, whose jobs may wait there."""


def open_database(settings: Settings, folder: Path) -> Database:
    """Open the database of the jobs.

    Raises:
        SettingsError: it cannot be used.
        Unavailable: it cannot be reached.
    """
    with _about(_database_setting(settings, folder)):
        if settings.jobs_database:
            database: Database = _postgres(settings).PostgresDatabase(settings.jobs_database)
            return database
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return SqliteDatabase(folder / DATABASE)


def open_store(settings: Settings, folder: Path) -> Store:
    """Open the store of the jobs' files.

    Raises:
        SettingsError: it cannot be used.
        Unavailable: its disk is full or cannot be reached.
    """
    if settings.jobs_store:
        try:
            from app.jobs.objects import ObjectStore
        except ImportError as error:
            raise SettingsError("ESRGAN_JOBS_STORE needs the extra `s3`: obstore") from error
        with _about("ESRGAN_JOBS_STORE"):
            return ObjectStore(settings.jobs_store)
    with _about(f"ESRGAN_JOBS_FOLDER={folder}"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return FolderStore(folder / FILES, min_free_bytes=settings.jobs_min_free_bytes)


def open_webhook_secrets(settings: Settings, folder: Path, *, create: bool = True) -> WebhookSecrets:
    """Read the secrets that sign webhooks; by default from the folder of the jobs.

    Args:
        create: create a secret in the folder of the jobs if there is none.

    Raises:
        SettingsError: they cannot be used.
        Unavailable: their disk is full or cannot be reached.
    """
    path = settings.webhook_secrets
    if path is None and settings.jobs_database:
        if settings.webhook_hosts:
            raise SettingsError(
                "ESRGAN_WEBHOOK_SECRETS must name a file that all machines share; receivers rely on one secret"
            )
        return WebhookSecrets([])
    with _about(f"ESRGAN_WEBHOOK_SECRETS={path or folder / SECRETS}"):
        if path is None and create:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return WebhookSecrets.read(path or folder / SECRETS, create=path is None and create)


def check_jobs(settings: Settings, folder: Path) -> None:
    """Check that the service can use database, store and secrets; leaves nothing behind.

    Raises:
        SettingsError: one of them cannot be used.
        Unavailable: one of them cannot be reached.
    """
    _check_database(settings, folder)
    if settings.jobs_store or (folder / FILES).exists():
        _check_store(settings, folder)
    if settings.webhook_secrets or settings.jobs_database or (folder / SECRETS).exists():
        open_webhook_secrets(settings, folder, create=False)


def ends_start(settings: Settings, error: SettingsError) -> bool:
    """Return True if a service may not start without its jobs.

    If no setting names a place for jobs, a service that cannot store any starts without, unless it would leave those of
    another version behind.
    """
    named = (settings.jobs_folder, settings.jobs_database, settings.jobs_store, settings.webhook_secrets)
    return any(named) or isinstance(error, OtherTables)


def _postgres(settings: Settings) -> ModuleType:
    try:
        from app.jobs import postgres
    except ImportError as error:
        raise SettingsError("ESRGAN_JOBS_DATABASE needs the extra `postgres`: psycopg") from error
    if not settings.jobs_store:
        raise SettingsError("ESRGAN_JOBS_DATABASE is shared by machines, so ESRGAN_JOBS_STORE must be, too; set both")
    return postgres


def _check_database(settings: Settings, folder: Path) -> None:
    with _about(_database_setting(settings, folder)):
        if settings.jobs_database:
            _postgres(settings).check_database(settings.jobs_database)
        elif (folder / DATABASE).exists():
            check_file(folder / DATABASE)
        else:
            _check_writable(folder)


def _database_setting(settings: Settings, folder: Path) -> str:
    return "ESRGAN_JOBS_DATABASE" if settings.jobs_database else f"ESRGAN_JOBS_FOLDER={folder}"


def _check_writable(folder: Path) -> None:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise OSError(f"{there} is not a folder that can be written to")


def _check_store(settings: Settings, folder: Path) -> None:
    """Write a small file and delete it. If it stays, the sweeper takes it for an upload without a job, and removes it.

    Raises:
        SettingsError: the store cannot be used.
        Unavailable: it cannot be reached, or refuses the file.
    """
    store, name = open_store(settings, folder), f"{new_job_id()}/upload-0"

    async def write_and_delete() -> None:
        async with asyncio.timeout(CHECK_S):
            await store.put(name, one(b"check"))
            await store.delete([name])

    try:
        asyncio.run(write_and_delete())
    except (StorageFull, StoreDown, TimeoutError) as error:
        reason = f"no answer within {CHECK_S:g} s" if isinstance(error, TimeoutError) else error.reason
        setting = "ESRGAN_JOBS_STORE" if settings.jobs_store else f"ESRGAN_JOBS_FOLDER={folder}"
        raise StoreDown(f"{setting}: {reason}") from error


@contextmanager
def _about(setting: str) -> Iterator[None]:
    """Replace errors of the system; the new ones name the setting."""
    try:
        yield
    except SchemaError as error:
        raise OtherTables(f"{setting}: {error}") from error
    except (OSError, ValueError) as error:
        reason = f"{setting}: {getattr(error, 'strerror', None) or error}"
        if getattr(error, "errno", None) in PASSING:
            raise StoreDown(reason) from error
        raise SettingsError(reason) from error

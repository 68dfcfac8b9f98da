"""Opens database, store and secrets of the jobs as the settings say."""

from pathlib import Path

from app.jobs.database import Database
from app.jobs.folder import FolderStore
from app.jobs.sqlite import SqliteDatabase
from app.jobs.store import Store
from app.jobs.webhooks import WebhookSecrets
from app.settings import Settings, SettingsError

DATABASE = "jobs.sqlite"
FILES = "files"
SECRETS = "webhook-secrets"


def open_database(settings: Settings, folder: Path) -> Database:
    """Open the database of the jobs.

    Raises:
        SettingsError: it cannot be used.
    """
    if settings.jobs_database:
        try:
            from app.jobs.postgres import PostgresDatabase
        except ImportError as error:
            raise SettingsError("ESRGAN_JOBS_DATABASE needs the extra `postgres`: psycopg") from error
        if not settings.jobs_store:
            raise SettingsError(
                "ESRGAN_JOBS_DATABASE is shared by machines, so ESRGAN_JOBS_STORE must be, too; set both"
            )
        try:
            return PostgresDatabase(settings.jobs_database)
        except OSError as error:
            raise SettingsError(f"ESRGAN_JOBS_DATABASE: {error}") from error
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return SqliteDatabase(folder / DATABASE)
    except OSError as error:
        raise SettingsError(f"ESRGAN_JOBS_FOLDER={folder}: {error.strerror or error}") from error


def open_store(settings: Settings, folder: Path) -> Store:
    """Open the store of the jobs' files.

    Raises:
        SettingsError: it cannot be used.
    """
    if settings.jobs_store:
        try:
            from app.jobs.objects import ObjectStore
        except ImportError as error:
            raise SettingsError("ESRGAN_JOBS_STORE needs the extra `s3`: obstore") from error
        try:
            return ObjectStore(settings.jobs_store)
        except ValueError as error:
            raise SettingsError(f"ESRGAN_JOBS_STORE: {error}") from error
    try:
        return FolderStore(folder / FILES, min_free_bytes=settings.jobs_min_free_bytes)
    except OSError as error:
        raise SettingsError(f"ESRGAN_JOBS_FOLDER={folder}: {error.strerror or error}") from error


def open_webhook_secrets(settings: Settings, folder: Path) -> WebhookSecrets:
    """Read the secrets that webhooks are signed with; without a setting they are in the folder of the jobs.

    Raises:
        SettingsError: they cannot be used.
    """
    path = settings.webhook_secrets
    if path is None and settings.jobs_database:
        if settings.webhook_hosts:
            raise SettingsError(
                "ESRGAN_WEBHOOK_SECRETS must name a file that all machines share; receivers rely on one secret"
            )
        return WebhookSecrets([])
    try:
        if path is None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return WebhookSecrets.read(folder / SECRETS, create=True)
        return WebhookSecrets.read(path)
    except (OSError, ValueError) as error:
        raise SettingsError(f"ESRGAN_WEBHOOK_SECRETS={path or folder / SECRETS}: {error}") from error

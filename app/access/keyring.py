"""The keys that are valid now. The file is reloaded when it changes; a broken file changes nothing."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from app.access.keys import NO_LIMITS, Key, KeyLimits, KeysError, find_key, parse_keys
from app.access.usage import Usage
from app.settings import SettingsError

CHECK_INTERVAL_S = 1.0
"""Minimum interval between two checks for changes of the file."""

log = logging.getLogger(__name__)

FileStamp = tuple[int, int, int]


class Keyring:
    """The keys of a file and their usage. Belongs to the event loop.

    Raises:
        SettingsError: the file cannot be read or has no keys.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._checked_s = clock()
        self._usages: dict[str, Usage] = {}
        try:
            self._stamp: FileStamp | None = self._stamp_of_file()
            self._keys = parse_keys(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError, KeysError) as error:
            raise SettingsError(f"ESRGAN_KEYS={path}: {_reason(error)}") from error

    def find(self, token: str) -> Key | None:
        """Return the key with this token, if it is valid now."""
        self._refresh()
        return find_key(self._keys, token)

    def usage(self, key: Key) -> Usage:
        """Return the usage of the requests under the key's name; starts from zero after its limits change."""
        usage = self._usages.get(key.name)
        if usage is None or usage.limits != key.limits:
            usage = self._usages[key.name] = Usage(key, self._clock)
        return usage

    def charge(self, name: str, px: int) -> None:
        """Charge a key for LR px that no request waits for; does nothing for a key without requests in this process."""
        if (usage := self._usages.get(name)) is not None:
            usage.charge(px)

    def limits(self, name: str) -> KeyLimits:
        """Return the limits of a key; none for a key that is gone."""
        self._refresh()
        return next((key.limits for key in self._keys if key.name == name), NO_LIMITS)

    def _stamp_of_file(self) -> FileStamp:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _refresh(self) -> None:
        """Read the file if it has changed; looks at it once within `CHECK_INTERVAL_S`."""
        if self._clock() - self._checked_s < CHECK_INTERVAL_S:
            return
        self._checked_s = self._clock()
        stamp: FileStamp | None = None
        try:
            stamp = self._stamp_of_file()
            if stamp != self._stamp:
                self._keys = parse_keys(self._path.read_text(encoding="utf-8-sig"))
                log.info("API keys reloaded: %s", ", ".join(sorted({key.name for key in self._keys})))
        except (OSError, UnicodeDecodeError, KeysError) as error:
            if stamp != self._stamp:  # logged once
                log.error("keeping the previous API keys, because of %s: %s", self._path, _reason(error))
        self._stamp = stamp


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"it cannot be read ({error.strerror})"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)

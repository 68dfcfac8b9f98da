"""The keys that are valid at the moment: the file is read anew when it changes, and a broken one changes nothing."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from app.access.keys import Key, KeysError, find_key, parse_keys
from app.access.usage import Usage
from app.settings import SettingsError

LOOK_S = 1.0
"""How often at most it is looked whether the file has changed."""

log = logging.getLogger(__name__)

Signature = tuple[int, int, int]


class Keyring:
    """The keys of a file and what they have used. Belongs to the event loop.

    Raises:
        SettingsError: the file cannot be read or holds no keys.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked_s = clock()
        self._usages: dict[str, Usage] = {}
        try:
            self._signature: Signature | None = self._sign()
            self._keys = parse_keys(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError, KeysError) as error:
            raise SettingsError(f"ESRGAN_KEYS={path}: {_why(error)}") from error

    def find(self, token: str) -> Key | None:
        """The key with this token, if there is one now."""
        if self._clock() - self._looked_s >= LOOK_S:
            self._looked_s = self._clock()
            self._refresh()
        return find_key(self._keys, token)

    def usage(self, key: Key) -> Usage:
        """What the requests under the key's name use; begins anew when its limits have changed."""
        usage = self._usages.get(key.name)
        if usage is None or usage.limits != key.limits:
            usage = self._usages[key.name] = Usage(key.limits, self._clock)
        return usage

    def _sign(self) -> Signature:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _refresh(self) -> None:
        signature: Signature | None = None
        try:
            signature = self._sign()
            if signature != self._signature:
                self._keys = parse_keys(self._path.read_text(encoding="utf-8-sig"))
                log.info("the keys were read anew: %s", ", ".join(sorted({key.name for key in self._keys})))
        except (OSError, UnicodeDecodeError, KeysError) as error:
            if signature != self._signature:  # told once
                log.error("the keys stay as they were, for %s: %s", self._path, _why(error))
        self._signature = signature


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"it cannot be read ({error.strerror})"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)

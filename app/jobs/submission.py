"""A job as its caller sends it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.upscaling import UpscaleRequest


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job as a caller sends it: pictures or the URLs of some."""

    key_name: str
    request: UpscaleRequest
    pictures: Sequence[bytes] = ()
    names: Sequence[str] = ()
    """File names of the pictures; empty if one has none."""
    sources: Sequence[str] = ()
    targets: Sequence[str] = ()
    """URLs to write the results to, one for each source; empty for none."""
    webhook: str = ""
    webhook_events: Sequence[str] = ()
    idempotency_key: str = ""
    trace: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that distinguishes it from other jobs."""
        digests = [hashlib.sha256(picture).hexdigest() for picture in self.pictures]
        parts = [self.request.to_json(), digests, list(self.sources), list(self.targets), self.webhook]
        text = json.dumps([*parts, list(self.webhook_events)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

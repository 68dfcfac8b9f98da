"""Authorize requests by API key, before the body is read."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer

from app.access.keyring import Keyring
from app.access.keys import NO_LIMITS, RIGHTS, Key, KeyLimits, Right
from app.errors import Forbidden, Unauthorized
from app.record import RequestRecord, current_record
from app.settings import Settings

HEADER = "X-Api-Key"

# These only describe the headers in the OpenAPI document; `_token` reads them.
_BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="An API key, where the service requires one.")
_API_KEY = APIKeyHeader(name=HEADER, auto_error=False, scheme_name="key", description="The same key in another header.")

FORWARDED = re.compile(
    r"forwarded|proxy|(client|connecting|real|user)-?ip|^(x-(original|envoy|amzn|azure|appengine)-|via$|cdn-loop$)"
)
"""Headers that proxies add when they forward a request."""

Dependency = Callable[..., AsyncIterator[None]]


class Authorizer:
    """Checks the rights of requests.

    Without keys, everything is allowed if the service listens on this machine alone; on any other address nobody may
    administer it. A request through a proxy may come from anywhere: without keys, it may neither administer the service
    nor read the metrics, on any address.

    Raises:
        SettingsError: the key file cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._keyring = Keyring(settings.keys) if settings.keys is not None else None
        self._local = settings.is_local

    def require(self, right: Right, *, counts: bool = True) -> Dependency:
        """Make a dependency for endpoints that need this right; a request counts for its key until its answer ends.

        Args:
            counts: False if the limits of the key do not apply.
        """

        async def authorized(
            request: Request, bearer: Annotated[object, Depends(_BEARER)], key: Annotated[object, Depends(_API_KEY)]
        ) -> AsyncIterator[None]:
            if self._keyring is None:
                self._check_anonymous(right, request)
                request.state.long_lived = nullcontext
                yield
                return
            known = _known_key(request, self._keyring)
            record = current_record()
            record.key = known.name
            if right not in RIGHTS[known.role]:
                raise Forbidden(
                    f"the key {known.name} has the role {known.role.value}, which may not {right.value}; "
                    "ask the operator for another key"
                )
            request.state.key = known
            usage = self._keyring.usage(known)
            request.state.long_lived = usage.counting_long_lived
            if not counts:
                yield
                return
            usage.begin()
            try:
                yield
            finally:
                usage.end(record.cost_px + record.accepted_px)

        return authorized

    def charge(self, record: RequestRecord) -> None:
        """Charge the work on a picture of a job to its key, less what was charged when the job was accepted.

        Until a picture has ended, the cost of one from a URL is unknown, and for a model that was never loaded the
        assumed one may be too low. Failed and cancelled pictures are charged, too: a caller could make its target
        refuse the result, or cancel the job once the target has it.
        """
        if self._keyring is not None and record.is_chargeable:
            self._keyring.charge(record.key, max(0, record.cost_px - record.accepted_px))

    def limits(self, name: str) -> KeyLimits:
        """Return the limits of a key."""
        return NO_LIMITS if self._keyring is None else self._keyring.limits(name)

    def _check_anonymous(self, right: Right, request: Request) -> None:
        if right is Right.UPSCALE:
            return
        if proxied := next(filter(FORWARDED.search, request.headers), None):
            raise Forbidden(
                f"without keys, requests through a proxy may not {right.value}, and this one has the header {proxied}; "
                "set ESRGAN_KEYS, or send the request directly"
            )
        if right is Right.ADMINISTER and not self._local:
            raise Forbidden(f"without keys, requests over the network may not {right.value}; set ESRGAN_KEYS")


def key_of(request: Request) -> Key | None:
    """Return the key of an authorized request; None if the service has no keys."""
    key: Key | None = getattr(request.state, "key", None)
    return key


def _known_key(request: Request, keyring: Keyring) -> Key:
    key = keyring.find(_token(request))
    if key is None:
        raise Unauthorized("the key is unknown or no longer valid; ask the operator for one", wrong=True)
    return key


def _token(request: Request) -> str:
    # Other schemes in `Authorization` are ignored: a proxy may add them.
    bearers = (value.partition(" ") for value in request.headers.getlist("Authorization"))
    tokens = [token.strip() for scheme, _, token in bearers if scheme.lower() == "bearer"]
    tokens += request.headers.getlist(HEADER)
    if not tokens:
        raise Unauthorized(f"send your key as `Authorization: Bearer KEY` or as `{HEADER}: KEY`")
    if len(tokens) > 1:
        raise Unauthorized(f"the request has {len(tokens)} keys; send one", wrong=True)
    return tokens[0]

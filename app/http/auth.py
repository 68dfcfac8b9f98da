"""Checks who sends a request and whether the key allows it, before a byte of the body is read."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer

from app.access.keyring import Keyring
from app.access.keys import RIGHTS, Key, Right
from app.errors import Forbidden, Unauthorized
from app.record import current_record
from app.settings import Settings

HEADER = "X-Api-Key"

# What the OpenAPI document says; `_token` reads the headers.
_BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="A key, where the service demands one.")
_API_KEY = APIKeyHeader(name=HEADER, auto_error=False, scheme_name="key", description="The same, in its own header.")

FORWARDED = re.compile(
    r"forwarded|proxy|(client|connecting|real|user)-?ip|^(x-(original|envoy|amzn|azure|appengine)-|via$|cdn-loop$)"
)
"""Names of headers by which proxies say that they pass on another's request."""

Demand = Callable[..., AsyncIterator[None]]


class Access:
    """The door to the endpoints.

    Without keys anybody may do anything, as long as the service listens on this machine alone; beyond that nobody
    may administer it. A request that has come through a proxy may be from anywhere, so without keys it neither
    administers nor reads the metrics, wherever the service listens.

    Raises:
        SettingsError: the file of keys cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._keyring = Keyring(settings.keys) if settings.keys is not None else None
        self._local = settings.is_local

    def demand(self, right: Right) -> Demand:
        """The dependency of endpoints that need this right. A request counts for its key until the answer has ended."""

        async def admitted(
            request: Request, bearer: Annotated[object, Depends(_BEARER)], key: Annotated[object, Depends(_API_KEY)]
        ) -> AsyncIterator[None]:
            if self._keyring is None:
                self._check_anonymous(right, request)
                yield
                return
            known = _known(self._keyring, request)
            record = current_record()
            record.key = known.name
            if right not in RIGHTS[known.role]:
                raise Forbidden(
                    f"the key {known.name} has the role {known.role.value}, which may not {right.value}; "
                    "ask the operator for another key"
                )
            usage = self._keyring.usage(known)
            usage.begin(known)
            try:
                yield
            finally:
                usage.end(record.cost_px)

        return admitted

    def _check_anonymous(self, right: Right, request: Request) -> None:
        if right is Right.UPSCALE:
            return
        if proxied := next(filter(FORWARDED.search, request.headers), None):
            raise Forbidden(
                f"without keys nobody may {right.value} through a proxy, and the request has the header {proxied}; "
                "set ESRGAN_KEYS, or ask the service directly"
            )
        if right is Right.ADMINISTER and not self._local:
            raise Forbidden(f"without keys nobody may {right.value} over the network; set ESRGAN_KEYS")


def _known(keyring: Keyring, request: Request) -> Key:
    key = keyring.find(_token(request))
    if key is None:
        raise Unauthorized("the key is not known, or not any more; ask the operator for one", wrong=True)
    return key


def _token(request: Request) -> str:
    # Another scheme next to our own header is a proxy's business.
    bearers = (value.partition(" ") for value in request.headers.getlist("Authorization"))
    tokens = [token.strip() for scheme, _, token in bearers if scheme.lower() == "bearer"]
    tokens += request.headers.getlist(HEADER)
    if not tokens:
        raise Unauthorized(f"send your key as `Authorization: Bearer KEY` or as `{HEADER}: KEY`")
    if len(tokens) > 1:
        raise Unauthorized(f"the request carries {len(tokens)} keys; send one", wrong=True)
    return tokens[0]

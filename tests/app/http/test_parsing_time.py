"""Parsing of untrusted headers and forms takes linear time: families of repeated patterns.

For the 16 KiB that a request's head may have, a quadratic parser takes seconds and a linear one about a millisecond, so
the bound between them is generous. Only the processor time of this thread counts, not other processes or threads.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from urllib.parse import quote

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.requests import Request

from app.access.keys import find_key
from app.errors import ServiceError
from app.http.accept import accepted_formats
from app.http.application import create_app
from app.http.endpoints.metrics import _accepts_open_metrics
from app.http.fields import preferences
from app.http.form import Form, check_encoding
from app.http.middleware.context import ACCEPTED_ID
from app.http.middleware.entrance import MAX_HEAD_BYTES
from app.http.parameters import Parameters
from app.http.receiving import check_given_once
from app.record import RequestRecord
from tests.app.in_process import client_of, without_models

MAX_HEAD = MAX_HEAD_BYTES - 500
"""Maximum characters of one header in a request that is not refused for its size."""

HEAD_S = 0.05
"""Maximum CPU time for one header; a whole request may take four times as long."""

ATOMS = [
    *'"\\;,=/*- \t\0aAzq0.:%()<>@[]{}~_\x7f\x80\xe9\xff',
    "q=0.5",
    ";q=",
    '\\"',
    'a="',
    "a=b",
    "a/b",
    "wait",
    "wait=",
    "%41",
    "%zz",
    "&",
    "+",
    "00-",
    "boundary=",
    "name=",
    "filename*=UTF-8''",
    "charset=punycode",
    "version=1.",
    "application/openmetrics-text;",
    "multipart/form-data;",
    "image/png",
    "gzip,",
    "Bearer ",
]
"""Tokens that parsers of headers look for, and others."""


def form_of(content_type: str = "multipart/form-data; boundary=b", body: bytes = b"") -> None:
    """Read a whole form, or until it is refused."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    asyncio.run(Form(content_type).read(pieces()))


def request_with(query: str = "", **headers: str) -> Request:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "query_string": query.encode("latin-1"), "headers": raw})


def read_query(value: str) -> None:
    request = request_with(value)
    check_given_once(request)
    Parameters.model_validate(dict(request.query_params))


def read_disposition(value: str) -> None:
    head = b"--b\r\nContent-Disposition: " + value[:4000].encode("latin-1")
    form_of(body=head + b"\r\n\r\nx\r\n--b--\r\n")


READERS: dict[str, Callable[[str], object]] = {
    "Prefer": lambda value: preferences(request_with(prefer=value).headers),
    "Accept": accepted_formats,
    "Accept of a scraper": lambda value: _accepts_open_metrics(request_with(accept=value)),
    "Content-Type": form_of,
    "Content-Encoding": lambda value: check_encoding("Content-Encoding", value),
    "Content-Disposition": read_disposition,
    "traceparent": lambda value: RequestRecord(trace_headers={"traceparent": value}).trace_id,
    "X-Request-Id": ACCEPTED_ID.fullmatch,
    "X-Api-Key": lambda value: find_key([], value),
    "query": read_query,
    "a parameter of the query": lambda value: read_query(f"scale={quote(value[: MAX_HEAD // 3])}"),
    "parameters of a form": lambda value: Parameters.of(Parameters(), {"model": value}),
}


def cost_s(read: Callable[[str], object], value: str) -> float:
    """Measure the processor time for a value, which may be refused, but not by an unexpected error."""
    began_s = time.thread_time()
    with suppress(ServiceError, RequestValidationError, ValidationError):
        read(value)
    return time.thread_time() - began_s


def repeated(start: str, unit: Sequence[str], end: str) -> str:
    """Make a header of maximum length that repeats one pattern."""
    pattern = "".join(unit)
    return start + pattern * ((MAX_HEAD - len(start) - len(end)) // len(pattern)) + end


HEADERS = st.builds(
    repeated,
    st.sampled_from(["", *ATOMS]),
    st.lists(st.sampled_from(ATOMS), min_size=1, max_size=3),
    st.sampled_from(ATOMS),
)


@pytest.mark.parametrize("reader", READERS)
def test_parsing_a_header_takes_linear_time(reader: str) -> None:
    @given(HEADERS)
    @settings(max_examples=40, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    def read(value: str) -> None:
        assert min(cost_s(READERS[reader], value) for _ in range(2)) < HEAD_S, value[:80]

    read()


@pytest.mark.parametrize("reader", READERS)
def test_matching_a_pattern_of_one_atom_takes_linear_time(reader: str) -> None:
    for atom in ATOMS:
        for start, end in (("", ""), ("a", '"'), ("a=", '"'), ('a="', ""), ("a;", "b"), ("a", "\0")):
            value = repeated(start, [atom], end)
            assert cost_s(READERS[reader], value) < HEAD_S or cost_s(READERS[reader], value) < HEAD_S, value[:80]


BODY_BYTES = 2**18
BODY_S = 1.0
"""Maximum CPU time for a form of that length; repeated text that resembles a boundary takes a thirtieth of it."""


@pytest.mark.parametrize(
    "unit",
    [
        b"\r\n--bX",
        b"\r\n--b-",
        b"\r\n--b\r",
        b"\r\n--b",
        b"\r",
        b"\r\n",
        b"-",
        b"a",
        b"\xff",
        b"--b\r\n",
        b"\r\n--b\r\n\r\n",
    ],
)
@pytest.mark.parametrize("name", [b"image", b"model"])
def test_parsing_a_body_takes_linear_time(name: bytes, unit: bytes) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n'
    for start in (head, b"", b"\r\n", b"--b\r\n"):
        body = start + unit * (BODY_BYTES // len(unit))
        assert cost_s(lambda _, body=body: form_of(body=body), "") < BODY_S  # type: ignore[misc]  # its default binds


@pytest.mark.anyio
async def test_no_header_blocks_the_whole_service() -> None:
    app = create_app(without_models())
    patterns = ['a"', "a=b", "a ", "a;", '";', "\\", "=", ",", "/", "q=1;", "%41", "é", "[", "."]
    names = [
        *("Prefer", "Accept", "Accept-Encoding", "Accept-Language", "Content-Type", "Content-Encoding", "Cookie"),
        *(
            "Authorization",
            "X-Api-Key",
            "X-Request-Id",
            "traceparent",
            "tracestate",
            "Host",
            "Origin",
            "Range",
            "Expect",
        ),
        *("If-None-Match", "If-Modified-Since", "Forwarded", "X-Forwarded-For", "User-Agent", "Connection", "Upgrade"),
    ]
    async with client_of(app) as client:
        for name in names:
            for pattern in patterns:
                value = repeated("a", [pattern], '"').encode("latin-1")
                paths = ("/metrics", "/nothing") if name == "Accept" else ("/nothing",)
                for path in paths:
                    times_s = list[float]()
                    while not times_s or (times_s[-1] > 4 * HEAD_S and len(times_s) < 3):  # a collection of garbage
                        began_s = time.thread_time()
                        answer = await client.get(path, headers={name.encode(): value})
                        times_s.append(time.thread_time() - began_s)
                        assert answer.status_code in {200, 403, 404}, (name, pattern)
                    assert min(times_s) < 4 * HEAD_S, (name, pattern)

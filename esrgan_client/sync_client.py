"""The synchronous client."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

import httpx

from esrgan_client.answers import Answer, Picture
from esrgan_client.calls import TIMEOUT, PictureFile, Pictures, form_of, headers_of, part_file, target_file
from esrgan_client.jobs import Events, Job, Progress, State, first_page, next_page, result_path
from esrgan_client.parameters import JobParameters, Parameters, query_of
from esrgan_client.problems import Problem
from esrgan_client.retries import Attempts

Result = TypeVar("Result")


class Client:
    """Calls a service. Every method raises `Problem`, or `httpx.TransportError` if the service cannot be reached.

    Paths that cannot be read or written raise `OSError`; a target that is also the source raises `ValueError`.

    Calls are retried if the service is busy or restarts, or if the connection is lost. All of them are safe to repeat.

    Args:
        url: URL of the service, with its prefix, if any.
        key: API key, if the service requires one.
        retry_s: seconds after a failure in which a call is retried; 0 for a single attempt.
        transport: httpx transport to use instead of the network.
    """

    def __init__(
        self, url: str, *, key: str = "", retry_s: float = 120, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._retry_s = retry_s
        self._http = httpx.Client(
            base_url=url,
            headers=headers_of(key),
            timeout=TIMEOUT,
            transport=transport,
            event_hooks={"response": [_check]},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def upscale(self, picture: bytes | PictureFile, **parameters: Unpack[Parameters]) -> Picture:
        """Upscale a picture, given as bytes or as a path."""
        query = query_of(parameters)
        with self._upload(picture) as content:
            answer = self._tried(lambda: self._http.post("/v1/upscale", content=content(), params=query))
        return Picture.of(answer.headers, content=answer.content)

    def upscale_file(self, source: PictureFile, target: PictureFile, **parameters: Unpack[Parameters]) -> Answer:
        """Upscale a file into a new one, which appears when it is complete. Both are streamed."""
        path, query = target_file(target, source), query_of(parameters)
        with self._upload(source) as content:
            return self._tried(lambda: self._to_file("POST", "/v1/upscale", path, content(), query))

    def submit(self, pictures: Pictures, **parameters: Unpack[JobParameters]) -> Job:
        """Submit a picture, or several, as a job."""
        data = query_of(parameters)  # in the form: proxies log queries, and the URL of a webhook may be a secret

        def send(headers: Mapping[str, str]) -> httpx.Response:
            with ExitStack() as opened:
                files = form_of(pictures, opened)
                return self._http.post("/v1/jobs", data=data, files=files, headers=headers)

        return self._submitted(send)

    def submit_urls(
        self,
        source: str | Sequence[str],
        target: str | Sequence[str] | None = None,
        **parameters: Unpack[JobParameters],
    ) -> Job:
        """Submit a job whose pictures the service reads from URLs.

        Args:
            source: URL of the picture, or URLs of several.
            target: presigned URL that the result is written to with PUT; one for each source.
        """
        document = {"source": source, "target": target, **parameters}
        return self._submitted(lambda headers: self._http.post("/v1/jobs", json=document, headers=headers))

    def job(self, job: str) -> Job:
        """Return the current state of a job."""
        return Job.of(self._tried(lambda: self._http.get(f"/v1/jobs/{job}")).json())

    def jobs(self, *, state: State | None = None) -> Iterator[Job]:
        """List the jobs of the key, in a state or in any, the newest first; pages are fetched as they are needed."""
        query: Mapping[str, str] | None = first_page(state)
        while query is not None:
            page = self._tried(partial(self._http.get, "/v1/jobs", params=query)).json()
            yield from map(Job.of, page["jobs"])
            query = next_page(query, page)

    def wait(self, job: str, *, on_progress: Progress | None = None) -> Job:
        """Wait for the end of a job; returns the job, which may have failed."""
        while True:
            attempts = Attempts(self._retry_s)
            self._tried(partial(self._watch, job, Events(on_progress), attempts), attempts)
            if (found := self.job(job)).ended:
                return found

    def result(self, job: str, target: PictureFile, *, number: int | None = None) -> Answer:
        """Write the result of a job, or of its picture `number` (from 1), to a file."""
        path = target_file(target)
        return self._tried(lambda: self._to_file("GET", result_path(job, number), path))

    def cancel(self, job: str) -> None:
        """Cancel a job, or remove one that has ended."""
        self._tried(lambda: self._http.delete(f"/v1/jobs/{job}"))

    def models(self) -> Any:
        """Return the models of the service; see docs/api.md."""
        return self._tried(lambda: self._http.get("/v1/models")).json()

    def _submitted(self, send: Callable[[Mapping[str, str]], httpx.Response]) -> Job:
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return Job.of(self._tried(lambda: send(headers)).json())

    def _tried(self, call: Callable[[], Result], attempts: Attempts | None = None) -> Result:
        attempts = attempts or Attempts(self._retry_s)
        while True:
            try:
                return call()
            except (Problem, httpx.TransportError) as error:
                time.sleep(attempts.pause_s(error))

    @contextmanager
    def _upload(self, picture: bytes | PictureFile) -> Iterator[Callable[[], bytes | Iterable[bytes]]]:
        """Provide a function that returns the picture's bytes, from the start at each call."""
        if isinstance(picture, bytes):
            yield lambda: picture
            return
        with Path(picture).open("rb") as file:

            def rewound() -> Iterable[bytes]:
                file.seek(0)
                return file

            yield rewound

    def _to_file(self, method: str, path: str, target: Path, content: Any = None, query: Any = None) -> Answer:
        with self._http.stream(method, path, content=content, params=query) as answer, part_file(target) as file:
            for piece in answer.iter_bytes():
                file.write(piece)
        return Answer.of(answer.headers)

    def _watch(self, job: str, events: Events, attempts: Attempts) -> None:
        with self._http.stream("GET", f"/v1/jobs/{job}/events") as answer:
            for line in answer.iter_lines():
                attempts.restart()
                if events.line(line):
                    return


def _check(answer: httpx.Response) -> None:
    """Read an error answer, and raise it as a `Problem`."""
    if not answer.is_success:
        answer.read()
        raise Problem.of(answer.status_code, answer.headers, answer.content)

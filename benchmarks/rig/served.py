"""python -m benchmarks.rig.served: the service as `python -m app` starts it, with its scheduler's counters.

`GET /bench/counters` returns the numbers of `Scheduler.counters()` as one JSON object.
"""

import logging

import uvicorn

from app.build import build_service
from app.environment import read_settings
from app.http.application import create_app
from app.lifecycle import Lifecycle


def main() -> None:
    """Serve until a signal; the settings come from the environment as ESRGAN_*."""
    logging.disable(logging.INFO)  # a line for each request would be measured too
    settings = read_settings()
    service = build_service(settings)
    app = create_app(Lifecycle.of(service))

    @app.get("/bench/counters")
    async def counters() -> dict[str, float]:
        return {name: value for name, value in vars(service.scheduler.counters()).items() if _is_number(value)}

    uvicorn.run(app, host=settings.host, port=settings.port, log_config=None, server_header=False)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


if __name__ == "__main__":
    main()

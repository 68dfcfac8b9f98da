"""The log: one line per request and other messages, as text or JSON, with the request id."""

import json
import logging
from datetime import UTC, datetime

from app.record import RequestRecord, current_record

PROBES = frozenset({"/livez", "/readyz", "/metrics"})
"""Probes come every few seconds: they are logged only if they fail, or at level DEBUG."""

access = logging.getLogger("app.access")


def log_config(log_format: str = "line", level: str = "INFO") -> dict[str, object]:
    """Return the configuration of `logging` for the service and its server.

    Args:
        log_format: `line` for people, `json` for machines: one object per line.
    """
    handler = {"class": "logging.StreamHandler", "formatter": log_format, "filters": ["request_id"]}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": _WithRequestId}},
        "formatters": {
            "line": {"()": LineFormatter},
            "json": {"()": JsonFormatter},
        },
        "handlers": {"stderr": handler},
        "loggers": {
            "uvicorn.access": {"propagate": False},  # our access line has more fields
            # Their warnings are about malformed requests, which our access line reports in fewer words.
            "python_multipart": {"level": "ERROR"},
            "httpx2": {"level": "WARNING"},  # it logs URLs, whose queries may be secrets
            "httpcore2": {"level": "WARNING"},
            "pyvips": {"level": "WARNING"},  # it reports the threads of each picture
            "opentelemetry.trace": {"level": "ERROR"},
            "uvicorn.error": {"level": "ERROR"},  # its warnings are about requests, which have access lines
        },
        "root": {"level": level, "handlers": ["stderr"]},
    }


def log_access(record: RequestRecord) -> None:
    """Log a line for a request that has ended."""
    good_probe = record.route in PROBES and record.status < 400
    access.log(
        logging.DEBUG if good_probe else logging.INFO,
        "%s %s %d",
        record.method,
        record.path,
        record.status,
        extra={"fields": access_fields(record)},
    )


def access_fields(record: RequestRecord) -> dict[str, object]:
    """Return the fields of a request's log line; unknown ones are left out."""
    fields: dict[str, object] = {
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "outcome": record.outcome,
        "client": record.client,
        "peer": record.peer,
        "duration_ms": round(record.seconds * 1000, 1),
        "trace_id": record.trace_id,
        "job": record.job,
        "key": record.key,
        "model": record.model,
        "width_px": record.width_px,
        "height_px": record.height_px,
        "runs": record.network_passes if record.network_passes > 1 else 0,
        "received_bytes": record.received_bytes,
        "sent_bytes": record.sent_bytes,
    }
    stages = {f"{name}_ms": round(stage.seconds * 1000, 1) for name, stage in record.stages.items()}
    return {name: value for name, value in fields.items() if value not in ("", 0)} | stages


class LineFormatter(logging.Formatter):
    """Formats a line of text; the fields of an access line follow the message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s [%(request_id)s] %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # its name in logging
        """Format the record as one line, apart from a traceback."""
        fields = getattr(record, "fields", {})
        more = [f"{name}={value}" for name, value in fields.items() if name not in ("method", "path", "status")]
        return " ".join([super().formatMessage(record), *more])


class JsonFormatter(logging.Formatter):
    """Formats one JSON object per line: `time` (UTC), `level`, `logger`, `message`, `request_id` and access fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record as one line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": getattr(record, "request_id", "-"),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _WithRequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = current_record().id
        return True

"""Every setting of the service. Each comes from the environment as `ESRGAN_` and its name in capitals."""

import difflib
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "ESRGAN_"
SHIPPED_MODELS = Path(__file__).parent.parent / "model" / "weights"

SERVICE_LINK = re.compile(r"(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
"""Names, after the prefix, of variables by which Kubernetes describes a Service whose name begins with esrgan."""

SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)
"""Begins the value of such a variable that is named `..._PORT`, and of no setting."""


class SettingsError(Exception):
    """The environment holds a setting that is unknown or out of range; the text says which and what is allowed."""


class Settings(BaseSettings):
    """The service's settings with their units, bounds and defaults."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 listens on all.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    root_path: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path below which a proxy shows the service, such as /pictures; empty: none that has to be known.",
    )
    keys: Path | None = Field(default=None, description="File of API keys, see `python -m app key`; empty: no keys.")
    allow_anonymous: bool = Field(
        default=False, description="Serve callers without keys on another address than this machine's own, too."
    )
    models: Path = Field(
        default=SHIPPED_MODELS, description="Folder of weight files; each is a model by its name without the suffix."
    )
    load: Literal["start", "lazy"] = Field(
        default="start", description="When models are loaded: all at the start, or each when it is first asked for."
    )
    watch_s: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        description="Seconds between two looks into the folder for new, changed and removed files; 0: none.",
    )
    max_model_bytes: int = Field(
        default=4 * 2**30,
        ge=1,
        description="Memory for all networks together; past it, the one used least recently is unloaded.",
    )
    max_loss_db: float = Field(
        default=10.0,
        ge=0,
        description="How far below bicubic a network of a foreign file may be on a test picture; 1000: any serves.",
    )
    default_model: str = Field(
        default="", description="The model for requests that name none; empty: the best that the device runs well."
    )
    precision: Literal["fastest", "float32", "bfloat16", "float16"] = Field(
        default="fastest",
        description="Number format that networks compute in: the fastest here, or always the one named.",
    )
    max_upload_bytes: int = Field(default=32 * 2**20, ge=1024, description="Largest upload in bytes.")
    max_picture_px: int = Field(default=2**24, ge=1, description="Most pixels of an uploaded picture.")
    max_width_px: int = Field(
        default=16384, ge=1, description="Widest picture: the memory of a row stream grows with the width."
    )
    max_upload_memory_bytes: int = Field(
        default=2**28, ge=1024, description="Memory for the uploads that are read or wait; more gets 429."
    )
    max_picture_memory_bytes: int = Field(
        default=2**31, ge=1, description="Memory for decoded pictures and their answers; uploads wait for it in order."
    )
    upload_s: float = Field(default=300, gt=0, description="Seconds for a whole upload.")
    upload_idle_s: float = Field(default=10, gt=0, description="Seconds without a byte of an upload.")
    upload_bytes_per_s: int = Field(
        default=8192, ge=1, description="Least rate of an upload on average, once it has gone on for the time above."
    )
    wait_s: float = Field(
        default=300, gt=0, description="Seconds that a request may take whose caller prefers no other time."
    )
    max_wait_s: int = Field(default=600, ge=1, description="Longest time that a caller may prefer.")
    max_frames: int = Field(default=10_000, ge=1, description="Most frames of an upload, of which the first is taken.")
    max_metadata_bytes: int = Field(
        default=4 * 2**20, ge=1024, description="Largest single piece of an upload that holds no pixels."
    )
    max_expansion: int = Field(default=100_000, ge=1, description="Most pixels for each byte of an upload.")
    max_queued_px: int = Field(
        default=2**26, ge=1, description="Most pixels that may wait for the device; more gets 429."
    )
    piece_s: float = Field(
        default=0.25,
        gt=0,
        le=60,
        description="Seconds that the device works without a break; a newcomer waits as long.",
    )
    whole_picture_px: int | None = Field(
        default=None, ge=1, description="Larger pictures go through as row streams; empty: what suits the device."
    )
    max_stream_bytes: int = Field(
        default=4 * 2**30,
        ge=1,
        description="Memory on the device for the open row streams, which grows with their width.",
    )
    log_format: Literal["line", "json"] = Field(
        default="line", description="Lines for people, or one JSON object a line for machines."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING"] = Field(default="INFO", description="What the log tells of.")
    max_buffered_bytes: int = Field(
        default=16 * 2**20, ge=0, description="Larger answers are sent while they are made, without a Content-Length."
    )
    codec_threads: int = Field(default=2, ge=1, le=64, description="Threads that decode and encode pictures.")
    max_connections: int = Field(
        default=1000, ge=10, description="Open connections; one more takes the place of one that has been idle longest."
    )
    head_s: float = Field(default=10, gt=0, description="Seconds for the headers of a request.")
    send_idle_s: float = Field(
        default=30, gt=0, description="Seconds for a caller to take anything of an answer that waits for it."
    )
    jobs: bool = Field(default=True, description="Take jobs: pictures that are upscaled after their request has ended.")
    jobs_folder: Path | None = Field(
        default=None,
        description="Folder of jobs; empty: esrgan-serve in $XDG_STATE_HOME, by default in ~/.local/state.",
    )
    jobs_database: str = Field(
        default="",
        pattern=r"^(postgres(ql)?://.+)?$",
        description="Address of a PostgreSQL database for the jobs of several machines; empty: SQLite in the folder.",
    )
    jobs_store: str = Field(
        default="",
        pattern=r"^((s3|gs|az|file)://.+)?$",
        description="Address of an object store for the files of jobs, such as s3://bucket/path; empty: the folder.",
    )
    jobs_running: int = Field(
        default=4, ge=1, le=64, description="Pictures of jobs that this process works on at a time."
    )
    jobs_waiting: int = Field(default=10_000, ge=1, description="Pictures of jobs that may wait; more gets 429.")
    jobs_max_bytes: int = Field(
        default=20 * 2**30, ge=1, description="Bytes that the uploads and results of jobs may hold; more gets 507."
    )
    jobs_min_free_bytes: int = Field(
        default=2**28, ge=0, description="Bytes of the disk that no upload of a job may take, so that results fit."
    )
    job_max_pictures: int = Field(default=100, ge=1, le=1000, description="Pictures of one job.")
    job_max_upload_bytes: int = Field(default=2**27, ge=1024, description="Bytes of all uploads of one job.")
    job_ttl_s: int = Field(default=86_400, gt=0, description="Seconds that a job is kept after it has ended.")
    job_lease_s: float = Field(
        default=15, gt=0, description="Seconds after which the work of a process that has died is taken up by another."
    )
    job_max_s: int = Field(default=3600, gt=0, description="Seconds that the work on one picture of a job may take.")
    webhook_secrets: Path | None = Field(
        default=None,
        description="File of secrets that sign webhooks, the newest first; empty: made in the folder of jobs.",
    )
    webhook_hosts: str = Field(
        default="", description="Hosts that webhooks may go to, separated by commas; * for any public one."
    )
    fetch_hosts: str = Field(
        default="", description="Hosts that pictures may be read from and written to, separated by commas; * likewise."
    )
    allowed_networks: str = Field(
        default="", description="Networks such as 10.0.0.0/8 whose addresses count as public for these hosts."
    )
    keep_alive_s: int = Field(default=65, ge=1, description="Seconds that an idle connection is kept open.")
    drain_s: int = Field(
        default=30, ge=0, description="Seconds that accepted work has to finish after a signal to stop."
    )

    @field_validator("port", mode="before")
    @classmethod
    def _ignore_service_address(cls, value: object) -> object:
        """Keep the default where Kubernetes has set ESRGAN_PORT, for a Service that is named esrgan."""
        is_address = isinstance(value, str) and SERVICE_ADDRESS.match(value)
        return cls.model_fields["port"].default if is_address else value

    @field_validator("allowed_networks")
    @classmethod
    def _check_networks(cls, value: str) -> str:
        for network in _members(value):
            ipaddress.ip_network(network)
        return value

    @property
    def networks(self) -> Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """Networks whose addresses count as public."""
        return [ipaddress.ip_network(network) for network in _members(self.allowed_networks)]

    def hosts(self, name: Literal["fetch_hosts", "webhook_hosts"]) -> Sequence[str]:
        """Return the hosts of a setting."""
        return _members(self.fetch_hosts if name == "fetch_hosts" else self.webhook_hosts)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def _members(value: str) -> list[str]:
    return [member.strip() for member in value.split(",") if member.strip()]


def _links(name: str, value: str) -> bool:
    """True for a variable that describes another service and is no setting of this one."""
    rest = name.upper().removeprefix(PREFIX)
    return bool(SERVICE_LINK.fullmatch(rest) or (rest.endswith("_PORT") and SERVICE_ADDRESS.match(value)))


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: one line per setting that is unknown or wrong, or keys are missing where they should not be.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    found = {name: value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    if unknown := sorted(
        name for name, value in found.items() if name.upper() not in known and not _links(name, value)
    ):
        close = {
            name for unknown_name in unknown for name in difflib.get_close_matches(unknown_name.upper(), known, n=1)
        }
        hint = f"did you mean {', '.join(sorted(close))}? " if close else ""
        raise SettingsError(f"unknown setting {', '.join(unknown)}; {hint}the settings are {', '.join(sorted(known))}")
    try:
        settings = Settings()
    except ValidationError as error:
        lines = (f"{PREFIX}{str(e['loc'][0]).upper()}={e['input']!r}: {e['msg']}" for e in error.errors())
        raise SettingsError("; ".join(lines)) from error
    if settings.keys is None and not settings.allow_anonymous and not settings.is_local:
        raise SettingsError(
            f"ESRGAN_HOST={settings.host} lets others than this machine in, and there are no keys; name a file of keys "
            "with ESRGAN_KEYS (`python -m app key NAME` makes one), or say ESRGAN_ALLOW_ANONYMOUS=true"
        )
    return settings

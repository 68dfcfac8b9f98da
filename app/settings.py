"""Every setting of the service, read from the environment variable `ESRGAN_` plus its name in capitals."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.lists import HostRule, Network, host_and_port_of, hosts_of, networks_of, origins_of

PREFIX = "ESRGAN_"
PREFIX_PATTERN = r"^(/[A-Za-z0-9._~-]+)*$"
SHIPPED_MODELS = Path(__file__).parent.parent / "model" / "weights"

SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)
"""Start of the value that Kubernetes gives `ESRGAN_PORT` for a Service named esrgan; no setting has such a value."""

# NoDecode, since pydantic-settings would expect JSON.
Hosts = Annotated[tuple[HostRule, ...], NoDecode, PlainValidator(hosts_of)]
Networks = Annotated[tuple[Network, ...], NoDecode, PlainValidator(networks_of)]
Origins = Annotated[tuple[str, ...], NoDecode, PlainValidator(origins_of)]
HostAndPort = Annotated[tuple[str, int] | None, NoDecode, PlainValidator(host_and_port_of)]


class SettingsError(Exception):
    """A setting is unknown or out of range; the text says which and what is allowed."""


class Settings(BaseSettings):
    """Settings with their units, bounds and defaults."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, validate_default=False)

    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for all addresses.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 for a free one.")
    root_path: str = Field(
        default="",
        pattern=PREFIX_PATTERN,
        description="Path prefix below which a proxy serves the service, such as /pictures; empty for none.",
    )
    trusted_proxies: Networks = Field(
        default=(),
        description="Addresses and networks of proxies, separated by commas, whose X-Forwarded- headers and Forwarded "
        "count.",
    )
    cors_origins: Origins = Field(
        default=(),
        description="Origins such as https://app.example.com, separated by commas, whose pages may call the service.",
    )
    published: HostAndPort = Field(
        default=None,
        description="HOST:PORT at which callers reach the service, where that is not the address that it listens at: "
        "the published port of a container, or a balancer's.",
    )
    keys: Path | None = Field(default=None, description="API key file, see `python -m app key`; empty for no keys.")
    allow_anonymous: bool = Field(
        default=False, description="Serve callers without keys on addresses that other machines can reach."
    )
    models: Path = Field(
        default=SHIPPED_MODELS,
        description="Folder of weight files; each is a model named like the file without its suffix.",
    )
    load: Literal["start", "lazy"] = Field(
        default="start",
        description="When to load models: all at the start, or all but the default one at their first request.",
    )
    watch_s: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        description="Seconds between checks of the folder for new, changed and removed files; 0 to disable.",
    )
    max_model_bytes: int = Field(
        default=4 * 2**30,
        ge=1,
        description="Memory for all networks together; beyond it, the least recently used one is unloaded.",
    )
    max_loss_db: float = Field(
        default=10.0,
        ge=0,
        description="How far below bicubic a network from a foreign file may be on a test picture; 1000 to accept any.",
    )
    default_model: str = Field(
        default="", description="Model for requests that name none; empty for a shipped one, else the first by name."
    )
    precision: Literal["fastest", "float32", "bfloat16", "float16"] = Field(
        default="fastest",
        description="Number format of the networks: the fastest on this machine, or always the named one.",
    )
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="CPU threads of the networks; empty for one per physical core."
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$",
        description="`auto` (a GPU if one can be used), `cpu`, `cuda` (a GPU or no start) or `cuda:N` (that GPU).",
    )
    max_upload_bytes: int = Field(default=32 * 2**20, ge=1024, description="Maximum size of an upload in bytes.")
    max_picture_px: int = Field(default=2**24, ge=1, description="Maximum pixels of an uploaded picture.")
    max_answer_px: int | None = Field(
        default=None,
        ge=1,
        description="Maximum pixels of an answer; empty for 16 times the maximum of an upload. More gets 413.",
    )
    max_width_px: int = Field(
        default=16384,
        ge=1,
        description="Maximum width of what the network reads: the memory of a row stream grows with it.",
    )
    max_upload_memory_bytes: int = Field(
        default=2**28,
        ge=1024,
        description="Memory for uploads that are being read or wait; beyond it, requests get 429.",
    )
    max_picture_memory_bytes: int = Field(
        default=2**31,
        ge=1,
        description="Memory for decoded pictures and their answers, which wait for it. More for one gets 413.",
    )
    upload_s: float = Field(default=300, gt=0, description="Maximum seconds for a whole upload, or a URL of a job.")
    upload_idle_s: float = Field(default=10, gt=0, description="Maximum seconds without a byte of an upload.")
    upload_bytes_per_s: int = Field(
        default=8192,
        ge=1,
        description="Minimum average rate of an upload, enforced after `upload_idle_s`; of a URL of a job, after 30 s.",
    )
    wait_s: float = Field(
        default=300, gt=0, description="Default request timeout in seconds, when the client sends no `Prefer: wait=`."
    )
    max_wait_s: int = Field(default=600, ge=1, description="Upper bound on `Prefer: wait=`, in seconds.")
    max_frames: int = Field(default=10_000, ge=1, description="Maximum frames in an upload, whichever are upscaled.")
    max_metadata_bytes: int = Field(
        default=4 * 2**20,
        ge=1024,
        description="Maximum bytes of a single part of an upload that has no pixels, such as a profile.",
    )
    max_expansion: int = Field(default=100_000, ge=1, description="Maximum pixels per byte of an upload.")
    max_queued_px: int = Field(
        default=2**26, ge=1, description="Maximum pixels queued for the device; beyond it, requests get 429."
    )
    piece_s: float = Field(
        default=0.25,
        gt=0,
        le=60,
        description="Target seconds of a piece of work, and so the longest wait of a new request for the device.",
    )
    hang_s: float = Field(
        default=120,
        gt=0,
        description="Minimum seconds after which a piece that is far past its prediction counts as hung; a step of "
        "loading may take ten times as long. The service then ends.",
    )
    whole_picture_px: int | None = Field(
        default=None, ge=1, description="Pictures with more pixels run as row streams; empty for what suits the device."
    )
    max_stream_bytes: int = Field(
        default=4 * 2**30,
        ge=1,
        description="Memory on the device for open row streams, which grows with their width.",
    )
    log_format: Literal["line", "json"] = Field(
        default="line", description="`line` for people, or `json` for machines: one object per line."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING"] = Field(default="INFO", description="Log level.")
    max_buffered_bytes: int = Field(
        default=16 * 2**20,
        ge=0,
        description="Larger PNG answers are streamed while they are made, without a Content-Length.",
    )
    codec_threads: int = Field(default=2, ge=1, le=64, description="Threads that decode and encode pictures.")
    max_connections: int = Field(
        default=1000,
        ge=10,
        description="Maximum open connections; a new one beyond it closes the one that has been idle longest.",
    )
    head_s: float = Field(default=10, gt=0, description="Maximum seconds for the headers of a request.")
    send_idle_s: float = Field(
        default=30,
        gt=0,
        description="Maximum seconds for a client to take any byte of an answer that waits to be sent.",
    )
    jobs: bool = Field(default=True, description="Take jobs: pictures that are upscaled after their request has ended.")
    jobs_folder: Path | None = Field(
        default=None,
        description="Folder of jobs; empty: esrgan-serve in $XDG_STATE_HOME, by default in ~/.local/state.",
    )
    jobs_database: str = Field(
        default="",
        pattern=r"^(postgres(ql)?://.+)?$",
        repr=False,  # may hold a password
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
    webhook_hosts: Hosts = Field(
        default=(), description="Hosts that webhooks may go to, separated by commas; * for any public one."
    )
    fetch_hosts: Hosts = Field(
        default=(), description="Hosts that pictures may be read from and written to, separated by commas; * likewise."
    )
    allowed_networks: Networks = Field(
        default=(), description="Networks such as 10.0.0.0/8 whose addresses count as public for these hosts."
    )
    page: bool = Field(default=True, description="Serve the page for people at `/`.")
    leave_s: float = Field(
        default=0,
        ge=0,
        le=300,
        description="Seconds after a signal to stop in which /readyz fails and requests are still accepted.",
    )
    keep_alive_s: int = Field(default=65, ge=1, description="Seconds that an idle connection is kept open.")
    drain_s: int = Field(default=30, ge=0, description="Seconds for accepted work to finish after a signal to stop.")

    @field_validator("port", mode="before")
    @classmethod
    def _ignore_service_address(cls, value: object) -> object:
        """Use the default where Kubernetes has set ESRGAN_PORT for a Service named esrgan."""
        is_address = isinstance(value, str) and SERVICE_ADDRESS.match(value)
        return cls.model_fields["port"].default if is_address else value

    @property
    def answer_px_limit(self) -> int:
        """Maximum pixels of an answer: by default those that a model of x4 makes of the largest upload."""
        return self.max_answer_px or 16 * self.max_picture_px

    @property
    def is_local(self) -> bool:
        """True if only this machine can reach the service."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

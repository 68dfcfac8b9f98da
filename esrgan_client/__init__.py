"""A client for esrgan-serve, sync and async. It needs httpx, but no other package of this repository.

from esrgan_client import Client

with Client("http://127.0.0.1:8000") as client:
    client.upscale_file("photo.jpg", "photo_x4.png")
"""

from esrgan_client.answers import Answer, Picture
from esrgan_client.async_client import AsyncClient
from esrgan_client.jobs import Job
from esrgan_client.parameters import JobParameters, Parameters
from esrgan_client.problems import (
    BadRequest,
    Busy,
    DeadlinePassed,
    Forbidden,
    NotAcceptable,
    NotFound,
    NotReady,
    Problem,
    StorageFull,
    TooLarge,
    TooSlow,
    Unauthorized,
    Unavailable,
    Unprocessable,
    Unsupported,
)
from esrgan_client.sync_client import Client

__all__ = [
    "Answer",
    "AsyncClient",
    "BadRequest",
    "Busy",
    "Client",
    "DeadlinePassed",
    "Forbidden",
    "Job",
    "JobParameters",
    "NotAcceptable",
    "NotFound",
    "NotReady",
    "Parameters",
    "Picture",
    "Problem",
    "StorageFull",
    "TooLarge",
    "TooSlow",
    "Unauthorized",
    "Unavailable",
    "Unprocessable",
    "Unsupported",
]

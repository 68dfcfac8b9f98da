"""python -m benchmarks.rig.litserve_server --weights FILE --port PORT: the same network behind LitServe.

Written as a user of LitServe would, with its own batching. LitServe stacks pictures of one shape and leaves mixed
shapes to its user: here pictures of one shape run together and others one by one, since padding all to the largest
would take several times the work. Pictures are read and written with Pillow, at its fastest level.
"""

import argparse
import io
from collections import defaultdict
from pathlib import Path

import litserve
import numpy
import torch
from fastapi import Request, Response
from PIL import Image

from benchmarks.rig.runtimes import Runtime, eager, ours
from model.device import fast_dtype
from model.files.checkpoint import read_checkpoint
from model.transfer import Pixels

MAX_BATCH_PX = 2**18
"""Maximum LR px of a batch."""

RUNTIMES = ("eager", "ours")


class SuperResolution(litserve.LitAPI):  # type: ignore[misc]  # an optional package: Any to mypy
    """Upscale the multipart field `image` to a PNG.

    Args:
        weights: weight file of the network.
        runtime: one of `RUNTIMES`: PyTorch in the device's fastest number format, or ours.
    """

    def __init__(self, weights: Path, runtime: str, *, max_batch_size: int, batch_timeout_s: float) -> None:
        super().__init__(max_batch_size=max_batch_size, batch_timeout=batch_timeout_s, api_path="/v1/upscale")
        self._weights = weights
        self._runtime = runtime

    def setup(self, device: str) -> None:
        """Load the network, once in each worker."""
        net, where = read_checkpoint(self._weights).net, torch.device(device)
        self._upscale: Runtime = (
            ours(net, where) if self._runtime == "ours" else eager(net, where, fast_dtype(where), torch.channels_last)
        )

    def decode_request(self, request: Request) -> Pixels:
        """Decode the uploaded picture, (H, W, 3); LitServe passes the form as the request."""
        return numpy.asarray(Image.open(request["image"].file).convert("RGB"))

    def batch(self, inputs: list[Pixels]) -> list[Pixels]:
        """Keep the pictures separate, since their shapes differ."""
        return inputs

    def predict(self, pictures: list[Pixels]) -> list[Pixels]:
        """Upscale (H, W, 3) each to (scale * H, scale * W, 3), in the same order."""
        by_shape = defaultdict(list)
        for place, picture in enumerate(pictures):
            by_shape[picture.shape].append(place)
        upscaled: dict[int, Pixels] = {}
        for (height, width, _), places in by_shape.items():
            together = max(1, MAX_BATCH_PX // (height * width))
            for first in range(0, len(places), together):
                some = places[first : first + together]
                upscaled |= zip(some, self._upscale(numpy.stack([pictures[place] for place in some])), strict=True)
        return [upscaled[place] for place in range(len(pictures))]

    def unbatch(self, output: list[Pixels]) -> list[Pixels]:
        """Return the pictures, which are separate already."""
        return output

    def encode_response(self, output: Pixels) -> Response:
        """Encode the answer to one request."""
        png = io.BytesIO()
        Image.fromarray(output).save(png, "PNG", compress_level=1)
        return Response(png.getvalue(), media_type="image/png")


def main() -> None:
    """Serve on 127.0.0.1 until a signal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rig.litserve_server", description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--runtime", choices=RUNTIMES, default="eager")
    parser.add_argument("--max-batch-size", type=int, default=8)
    parser.add_argument("--batch-timeout-s", type=float, default=0.01)
    options = parser.parse_args()
    api = SuperResolution(
        options.weights,
        options.runtime,
        max_batch_size=options.max_batch_size,
        batch_timeout_s=options.batch_timeout_s,
    )
    server = litserve.LitServer(api, timeout=False, devices=1)
    server.run(host="127.0.0.1", port=options.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()

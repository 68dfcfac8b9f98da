"""The edge of a cut-out through the shipped generator."""

import numpy
import pytest

from app.build import build_service
from app.pictures.encode import FORMATS
from app.pictures.layout import layout_of
from app.pictures.picture import Picture, planes_of
from app.pictures.postprocess import Postprocessor
from app.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("hidden", [(0, 0, 0), (255, 0, 0)])
async def test_a_white_disc_has_no_halo_whatever_the_hidden_colour(hidden: tuple[int, int, int]) -> None:
    rows, columns = numpy.mgrid[:40, :40]
    alpha = numpy.where((rows - 20) ** 2 + (columns - 20) ** 2 < 14**2, 255, 0).astype(numpy.uint8)
    colour = numpy.where(alpha[..., None] > 0, 255, numpy.array(hidden)).astype(numpy.uint8)
    service = build_service(Settings())
    picture = Picture(planes=planes_of(colour, alpha), grey=False, bits=8)
    async with service.library.lease(None) as network:
        (upscaled,) = network.upscaler.batch([picture.planes])
    finish = Postprocessor(picture, 4, layout_of(picture, FORMATS["png"], height=160, width=160))
    seen, opacity = numpy.split(finish.rows(upscaled), [3], axis=-1)
    assert opacity[80, 80, 0] == 255
    assert opacity[0, 0, 0] == 0
    assert seen[opacity[..., 0] > 0].min() >= 250

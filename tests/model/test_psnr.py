import math

import numpy
import pytest

from model.psnr import psnr_db


def test_one_level_of_difference_everywhere_is_48_db() -> None:
    dark, darker = numpy.full((2, 3), 1, numpy.uint8), numpy.zeros((2, 3), numpy.uint8)
    assert psnr_db(darker, dark) == psnr_db(dark, darker) == pytest.approx(48.13, abs=0.01)


def test_equal_pictures_are_infinitely_close() -> None:
    assert psnr_db(numpy.ones(3), numpy.ones(3)) == math.inf

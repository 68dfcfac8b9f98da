"""Errors that callers can get, in answers and in stored jobs."""

from app.errors import Unprocessable
from app.jobs.job import Problem


def test_the_text_of_an_error_is_cut_wherever_it_goes() -> None:
    assert len(Problem.of(Unprocessable("x" * 10**6)).detail) == 2000
    assert Problem.of(Unprocessable("all of it")).detail == "all of it"

import pytest

from model.errors import one_line


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("two\n  lines"), "two lines"),
        (ValueError(), "ValueError"),
        (FileNotFoundError(2, "No such file or directory", "/secret/net.pth"), "No such file or directory"),
        (OSError("could not get source code"), "could not get source code"),
        (OSError(), "OSError"),
    ],
)
def test_the_text_of_an_error_is_a_line_without_the_path_of_a_file(error: Exception, text: str) -> None:
    assert one_line(error) == text


def test_a_long_text_is_cut() -> None:
    assert one_line(ValueError("x" * 300)) == "x" * 200

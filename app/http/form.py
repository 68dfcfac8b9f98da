"""A multipart/form-data body (RFC 7578): one picture and small text fields, parsed while it arrives."""

from collections.abc import AsyncIterable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import BadRequest, UnsupportedEncoding

FIELD = "image"

MAX_FIELDS = 32
"""Maximum fields, without the pictures; above the number of parameters, so that an error can name an unknown one."""

MAX_FIELD_BYTES = 16 * 1024
"""Maximum bytes of a name or a value: the longest one is a URL of 4,096 characters, in UTF-8."""

NOT_ENCODED = frozenset({"", "identity", "binary", "8bit", "7bit"})
"""Content codings and transfer encodings that leave the bytes unchanged."""

HOW = f"send the picture as the field {FIELD!r}"


class Form:
    """Collects the parts of a form.

    The part named `image` is the picture, with or without a file name. Every other part is a parameter; it is decoded
    as UTF-8, whatever its headers say, so that a caller cannot choose a codec.

    Args:
        content_type: header of the request, with the boundary.

    Raises:
        BadRequest: there is no boundary.
    """

    def __init__(self, content_type: str, *, max_pictures: int = 1) -> None:
        self.pictures: list[bytearray] = []
        self.names: list[str] = []
        """File names of the pictures, as the caller wrote them; empty if a picture has none."""
        self._max_pictures = max_pictures
        self.parameters: dict[str, str] = {}
        self._header, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._text: bytearray | None = None
        """Value of the parameter that is being read; None while a picture is read."""
        self._ended = False
        self._boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not self._boundary:
            raise BadRequest(
                f"Content-Type: {content_type[:100]} has no boundary; let the client library set the header"
            )

    async def read(self, body: AsyncIterable[bytes]) -> None:
        """Read the whole body.

        Raises:
            BadRequest: it is malformed, or has something other than one picture and small fields, each once.
            UnsupportedEncoding: a part is compressed or encoded.
        """
        try:
            parser = self._parser()
            async for piece in body:
                parser.write(piece)
        except FormParserError as error:
            raise BadRequest(f"the multipart body is malformed: {error}") from error
        if not self._ended:
            raise BadRequest(
                "the multipart body ends before its last boundary; check the client and any proxy in between"
            )

    def _parser(self) -> MultipartParser:
        """Make the parser that calls this form; not stored, since the cycle would keep the picture in memory."""
        return MultipartParser(
            self._boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[bytes(self._header.lower())] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if not options.get(b"name"):
            raise BadRequest(f'a part of the form has no name; {HOW}: `Content-Disposition: form-data; name="{FIELD}"`')
        self._name = _text(options[b"name"], "the name of a form field")
        for header in ("content-encoding", "content-transfer-encoding"):
            check_encoding(header, self._headers.get(header.encode(), b"").decode("latin-1"))
        if self._name == FIELD:
            if len(self.pictures) == self._max_pictures:
                times = "once" if self._max_pictures == 1 else f"{self._max_pictures} times"
                raise BadRequest(
                    f"the form has {FIELD!r} more than {times}; send one picture per request, or several as a job"
                )
            self.pictures.append(bytearray())
            self.names.append(options.get(b"filename", b"").decode("utf-8", "replace"))
            self._text = None
            return
        if b"filename" in options:
            raise BadRequest(f"the form has a file as {self._name!r}; {HOW}, and no other file")
        if self._name in self.parameters:
            raise BadRequest(f"the form field {self._name!r} is given more than once; give it once")
        if len(self.parameters) == MAX_FIELDS:
            raise BadRequest(f"the form has more than {MAX_FIELDS} fields other than {FIELD!r}, which is the limit")
        self._text = bytearray()

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._text is None:
            self.pictures[-1] += data[start:end]
            return
        self._text += data[start : min(end, start + MAX_FIELD_BYTES + 1)]
        if len(self._text) > MAX_FIELD_BYTES:
            raise BadRequest(
                f"the form field {self._name!r} has more than {MAX_FIELD_BYTES} bytes, which is the limit; {HOW}"
            )

    def _on_part_end(self) -> None:
        if self._text is not None:
            self.parameters[self._name] = _text(self._text, f"the form field {self._name!r}")

    def _on_end(self) -> None:
        self._ended = True


def check_encoding(header: str, value: str) -> None:
    """Check that a header announces neither compression nor encoding.

    Raises:
        UnsupportedEncoding: the bytes are compressed or encoded.
    """
    encodings = [encoding.strip().lower() for encoding in value.split(",")]
    if wrong := next((encoding for encoding in encodings if encoding not in NOT_ENCODED), ""):
        raise UnsupportedEncoding(f"{header}: {wrong[:100]} is not supported; send the picture's bytes unencoded")


def _text(data: bytes | bytearray, what: str) -> str:
    if len(data) > MAX_FIELD_BYTES:
        raise BadRequest(f"{what} has more than {MAX_FIELD_BYTES} bytes, which is the limit")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"{what} is not UTF-8 (byte {error.start}); {HOW}, and text in UTF-8") from error

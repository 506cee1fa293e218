"""PEM text: what stands in it, and what of it the firmware's mbedTLS takes.

Source: RFC 7468 for the form; ``pem.c``, ``base64.c``, ``x509_crt.c`` and ``pkparse.c`` of mbedTLS
2.16 (firmware v2.x) and 3.6 (v5.x), which agree in what follows. The firmware puts a NUL after the
item and hands it over as text, so a NUL in it ends it. mbedTLS finds BEGIN and END anywhere, with
or without a byte order mark or text around them and with or without a final line end, but reads
nothing where an END stands before its BEGIN; the BEGIN line may end in one space; lines end in LF or
CRLF; inside there is base64 and spaces at the ends of lines, nothing else.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from esp_at_tools.errors import FormatError

UTF8_BOM = b"\xef\xbb\xbf"

CERTIFICATE = "CERTIFICATE"
PRIVATE_KEYS = ("RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
"""The labels of private keys, in the order in which mbedTLS looks for them."""

_MAX_BLOCKS = 1000
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9][A-Z0-9 ]{0,39})-----")
_HEADERS = re.compile(
    rb"\s*(?:[A-Za-z][A-Za-z0-9-]*:[^\r\n]*(?:\r\n|\n|\r)(?:[ \t][^\r\n]*(?:\r\n|\n|\r))*)+"
)
_ENCRYPTED = re.compile(rb"\s*Proc-Type:\s*4,\s*ENCRYPTED")
_BEGIN_LINE_END = re.compile(rb" ?\r?\n")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}\Z")


@dataclass(frozen=True)
class PemBlock:
    """One ``-----BEGIN LABEL-----`` to ``-----END LABEL-----``.

    Attributes:
        label: e.g. ``CERTIFICATE``.
        body: what stands between the two, which for a private key is secret.
        closed: whether there is an END.
        encrypted: whether a password is needed.
    """

    label: str
    body: bytes = field(repr=False)
    closed: bool
    encrypted: bool

    def der(self, name: str) -> bytes:
        """Return the decoded contents; white space and headers are passed over.

        Raises:
            FormatError: there is no END, or the base64 is damaged; ``name`` says in what.
        """
        if not self.closed:
            raise FormatError(
                f"{name}: cut off: there is no END {self.label}", "copy the whole file, to its last line"
            )
        headers = _HEADERS.match(self.body)
        text = b"".join(self.body[headers.end() if headers else 0 :].split())
        try:
            decoded = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
        except binascii.Error:
            decoded = b""
        if not decoded:
            raise FormatError(
                f"{name}: the base64 of its {self.label} is damaged", "export or copy the file again"
            )
        return decoded

    @property
    def taken(self) -> bool:
        """Whether mbedTLS takes the form, whatever is in it."""
        if self.encrypted:
            return True  # what it says then is that it needs a password
        line_end = _BEGIN_LINE_END.match(self.body)
        if not self.closed or line_end is None:
            return False
        lines = self.body[line_end.end() :].replace(b"\r\n", b"\n").split(b"\n")
        digits = b"".join(line.rstrip(b" ") for line in lines)
        return len(digits) % 4 == 0 and _BASE64.match(digits) is not None


def _is_encrypted(label: str, body: bytes) -> bool:
    return label == "ENCRYPTED PRIVATE KEY" or _ENCRYPTED.match(body) is not None


def c_string(data: bytes) -> bytes:
    """Return what the firmware sees of a text: all that stands before the first NUL."""
    return data.split(b"\0", 1)[0]


def split_pem(text: bytes, name: str) -> list[PemBlock]:
    """Return the blocks of a text, in their order; none if it is not PEM.

    Raises:
        FormatError: there are more than any certificate store has.
    """
    blocks: list[PemBlock] = []
    ends: dict[bytes, int] = {}  # label → where its next END is, so that a text is searched only once
    at = 0
    while (begin := _BEGIN.search(text, at)) is not None:
        if len(blocks) == _MAX_BLOCKS:
            raise FormatError(f"{name}: more than {_MAX_BLOCKS} PEM blocks", "keep what the device needs")
        end = ends.get(begin[1], 0)
        if 0 <= end < begin.end():
            end = ends[begin[1]] = text.find(b"-----END " + begin[1] + b"-----", begin.end())
        following = _BEGIN.search(text, begin.end())
        closed = end >= 0 and (following is None or end < following.start())
        stop = end if closed else following.start() if following else len(text)
        body = text[begin.end() : stop]
        label = begin[1].decode("ascii")
        blocks.append(PemBlock(label, body, closed, _is_encrypted(label, body)))
        at = stop
    return blocks


def firmware_bodies(text: bytes, label: str) -> list[PemBlock]:
    """Return the blocks of a label that mbedTLS finds: each from a BEGIN to the first END after the last.

    They differ from those of :func:`split_pem` where the lines are out of order.
    """
    begin_line, end_line = (f"-----{word} {label}-----".encode("ascii") for word in ("BEGIN", "END"))
    blocks: list[PemBlock] = []
    at = 0
    while len(blocks) < _MAX_BLOCKS:
        begin, end = text.find(begin_line, at), text.find(end_line, at)
        if begin < 0 or end <= begin:
            break
        body = text[begin + len(begin_line) : end]
        blocks.append(PemBlock(label, body, closed=True, encrypted=_is_encrypted(label, body)))
        at = end + len(end_line)
    return blocks

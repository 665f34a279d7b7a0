"""Text of headers and parts as Unicode: charsets, encoded words (RFC 2047), and the form in which search compares."""

import binascii
import codecs
import re
import unicodedata
from typing import Final

from certmaild.mailbox.decoding import decode_quoted_printable, decoder_for

PIECE: Final = 1 << 16
_ALIASES: Final = {
    "ascii": "utf-8",
    "us-ascii": "utf-8",
    "utf8": "utf-8",
    "unicode-1-1-utf-8": "utf-8",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "iso-8859-9": "cp1254",
    "iso-8859-11": "cp874",
    "tis-620": "cp874",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-8-e": "iso-8859-8",
    "iso-8859-6-i": "iso-8859-6",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
    "x-sjis": "cp932",
    "iso-2022-jp": "iso2022_jp_ext",
    "big5": "cp950",
    "x-mac-roman": "mac-roman",
    "unicode-1-1-utf-7": "utf-7",
}
"""What mail calls a charset, and the codec that reads what is really sent under that name."""
_NO_CHARSETS: Final = frozenset(("idna", "punycode", "unicode-escape", "raw-unicode-escape"))
_CHARSET_NAME: Final = re.compile(r"[A-Za-z0-9._:+()-]{1,40}")
_ENCODED_WORD: Final = re.compile(
    rb"=\?([A-Za-z0-9._:+()-]{1,40})(?:\*[A-Za-z0-9-]{1,20})?\?([BbQq])\?([^\s?]{0,2000})\?=(?:[ \t]++(?==\?))?"
)


def codec_of(charset: str) -> codecs.CodecInfo | None:
    """The text codec of a charset's name, any case; None when it is not known (SEARCH: BADCHARSET)."""
    name = charset.strip().lower()
    if not _CHARSET_NAME.fullmatch(name):
        return None
    try:
        info = codecs.lookup(_ALIASES.get(name, name))
    except LookupError:
        return None
    # Codecs that turn octets into octets, or escapes into text, are no charsets.
    known_text = getattr(info, "_is_text_encoding", True)
    return info if known_text and info.name not in _NO_CHARSETS else None


def decode_text(data: bytes, charset: str) -> str:
    """The text, whatever the octets are: a charset unknown or not fulfilled is read as UTF-8, else as Latin-1."""
    info = codec_of(charset)
    if info is not None:
        try:
            return _whole(info.decode(data, "strict")[0], info)
        except (UnicodeError, ValueError):
            pass
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1") if info is None else _whole(info.decode(data, "replace")[0], info)


def _whole(text: str, info: codecs.CodecInfo) -> str:
    """Without halves of surrogate pairs, which UTF-7 lets in and nothing can write again."""
    return text.encode("utf-8", "replace").decode("utf-8") if info.name == "utf-7" else text


def decode_header(value: bytes) -> str:
    """An unfolded field's body with its encoded words decoded (RFC 2047); 8-bit octets are UTF-8, else Latin-1."""
    if b"=?" not in value:
        return decode_text(value, "")
    out: list[str] = []
    pending, charset, at = b"", "", 0
    for match in _ENCODED_WORD.finditer(value):
        between = value[at : match.start()]
        name = match[1].decode("ascii").lower()
        # A character may be cut between two adjacent words of one charset.
        if pending and (between or name != charset):
            out.append(decode_text(pending, charset))
            pending = b""
        if between:
            out.append(decode_text(between, ""))
        charset, at = name, match.end()
        pending += _word(match[2].upper(), match[3])
    if pending:
        out.append(decode_text(pending, charset))
    out.append(decode_text(value[at:], ""))
    return "".join(out)


def _word(encoding: bytes, text: bytes) -> bytes:
    if encoding == b"Q":
        return decode_quoted_printable(text.replace(b"_", b" "))
    try:
        return binascii.a2b_base64(text + b"===")
    except ValueError:
        return text


def normalise(text: str) -> str:
    """The form in which search compares: compatibility forms united, case folded (KEYS section 9)."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


class PartText:
    """Text of one part as its octets stream by: transfer encoding and charset undone. Any chunking gives the same."""

    def __init__(self, encoding: bytes, charset: str) -> None:
        self._decoder = decoder_for(encoding) or decoder_for(b"8BIT")
        info = codec_of(charset)
        if info is None or info.incrementaldecoder is None:
            info = codecs.lookup("latin-1")
        self._text = info.incrementaldecoder("replace") if info.incrementaldecoder is not None else None

    def feed(self, data: bytes) -> str:
        """Text that is complete so far."""
        return self._decoded(self._decoder.feed(data) if self._decoder else data, final=False)

    def finish(self) -> str:
        """The rest."""
        return self._decoded(self._decoder.finish() if self._decoder else b"", final=True)

    def _decoded(self, data: bytes, *, final: bool) -> str:
        if self._text is None:
            return data.decode("latin-1")
        try:
            return self._text.decode(data, final)
        except (UnicodeError, ValueError):
            return data.decode("latin-1")


def part_text(data: bytes, encoding: bytes, charset: str, *, limit: int = 1 << 22) -> str:
    """The text of a whole part's octets, at most ``limit`` characters of it."""
    reader, pieces, room = PartText(encoding, charset), [], limit
    for at in range(0, len(data), PIECE):
        text = reader.feed(data[at : at + PIECE])
        pieces.append(text)
        room -= len(text)
        if room <= 0:
            return "".join(pieces)[:limit]
    pieces.append(reader.finish())
    return "".join(pieces)[:limit]


def searchable(data: bytes, encoding: bytes, charset: str, *, limit: int = 1 << 22) -> str:
    """A part's text as search compares it."""
    return normalise(part_text(data, encoding, charset, limit=limit))

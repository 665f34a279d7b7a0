"""What mail programs make links of: kept out of everything that the server writes, and out of what it quotes.

Names of servers that have to be typed stand alone; nothing that can be clicked stands anywhere.
"""

import re
from collections.abc import Collection
from email.message import EmailMessage

_SCHEMES = (
    "tel|sms|smsto|mms|callto|facetime|sips?|skype|xmpp|im|geo|maps|data|javascript|vbscript|file|urn|news|nntp"
    "|magnet|market|intent|whatsapp|viber|tg|webcal|cid|mid|about|blob|view-source"
)
_TAGS = "a|area|base|body|button|div|embed|form|frame|html|iframe|img|input|link|meta|object|p|script|span|style|svg"
_LINK = re.compile(
    rf"://|www\.|mailto:|\b(?:{_SCHEMES}|ms-[a-z-]{{1,60}}):\S|\.[^\W\d_]{{2,}}(?::\d+)?[/?#]|<(?:!|/?(?:{_TAGS})(?:[/>]|$))",
    re.IGNORECASE,
)
"""In a word: also a host name with a path, whatever stands before it, and a tag of HTML."""
_URI = re.compile(r"\b[a-z][a-z0-9+.-]*:\S", re.IGNORECASE)
"""RFC 3986 section 3, whatever the scheme is called."""
_ADDRESS = re.compile(r"[^\s@/:<>\\]+@[\w.-]+")


def without_links(text: str, left_out: str) -> str:
    """One line of printable characters; ``left_out`` stands where a word was that mail programs make a link of.

    What others say is shown to people who trust this server.
    """
    words = "".join(char if char.isprintable() else " " for char in text).split()
    return " ".join(left_out if _LINK.search(word) else word for word in words)


def link_in(text: str, names: Collection[str] = ()) -> str | None:
    """The first word of a text of the server's own that is a link, or may be one; None when there is none.

    Stricter than what is done to quoted words: whatever has the form of a URI counts. Not so mail addresses, nor
    ``names`` of our own that have to be typed, whatever they are called.
    """
    words = (word for word in text.split() if not _is_typed(word, names))
    return next((word for word in words if _LINK.search(word) or _URI.search(word)), None)


def make_plain(letter: EmailMessage, left_out: str, names: Collection[str] = ()) -> bool:
    """See to it that no letter of the server's own holds a link, whatever it quotes; whether it had none.

    In its plain text each word that is one is replaced by ``left_out``, but for mail addresses and ``names`` of our
    own. Raises `ValueError` for a letter in HTML: none may be written.
    """

    def plain_word(found: re.Match[str]) -> str:
        word = found[0]
        return left_out if _LINK.search(word) and not _is_typed(word, names) else word

    had_none = True
    for part in letter.walk():
        kind = part.get_content_type()
        if kind == "text/html":
            raise ValueError("letters of the server are plain text")
        if kind != "text/plain" or part.is_attachment():
            continue
        text = part.get_content()
        plain = re.sub(r"\S+", plain_word, text)
        if plain != text:
            had_none = False
            part.set_content(plain)
    return had_none


def _is_typed(word: str, names: Collection[str]) -> bool:
    bare = word.strip(".,;:()<>\"'")
    return bare.lower() in names or _ADDRESS.fullmatch(bare) is not None

"""What mail programs make links of: kept out of everything that the server writes, and out of what it quotes.

Names of servers that have to be typed stand alone; nothing that can be clicked stands anywhere.
"""

import re

_SCHEMES = (
    "tel|sms|smsto|mms|callto|facetime|sips?|skype|xmpp|im|geo|maps|data|javascript|vbscript|file|urn|news|nntp"
    "|magnet|market|intent|whatsapp|viber|tg|webcal|cid|mid|about|blob|view-source"
)
_LINK = re.compile(
    rf"://|www\.|mailto:|\b(?:{_SCHEMES}|ms-[a-z-]+):\S|\.[^\W\d_]{{2,}}(?::\d+)?[/?#]|<\s*/?\s*[a-z!]", re.IGNORECASE
)
"""In a word: also a host name with a path, whatever stands before it, and a tag of HTML."""
_URI = re.compile(r"\b[a-z][a-z0-9+.-]*:\S", re.IGNORECASE)
"""RFC 3986 section 3, whatever the scheme is called."""


def without_links(text: str, left_out: str) -> str:
    """One line of printable characters; ``left_out`` stands where a word was that mail programs make a link of.

    What others say is shown to people who trust this server.
    """
    words = "".join(char if char.isprintable() else " " for char in text).split()
    return " ".join(left_out if _LINK.search(word) else word for word in words)


def link_in(text: str) -> str | None:
    """The first word of a text of the server's own that is a link, or may be one; None when there is none.

    Stricter than what is done to quoted words: whatever has the form of a URI counts.
    """
    for word in text.split():
        # The address in "<ann@example.com>" is no tag.
        bare = word.strip("<>(),;\"'") if "@" in word else word
        if _LINK.search(bare) or _URI.search(bare):
            return word
    return None

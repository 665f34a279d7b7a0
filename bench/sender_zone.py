"""The DNS zone and the signatures of `sender.example`, for measuring what the checks of incoming mail cost."""

import base64
import socket
import threading
from collections.abc import Sequence

import dkim
import dns.message
import dns.rrset
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


class SenderZone:
    """A DNS server on a free UDP port of 127.0.0.1, and the key that it publishes."""

    def __init__(self) -> None:
        key = rsa.generate_private_key(65537, 2048)
        self._private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        public = base64.b64encode(
            key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        ).decode()
        self._texts = {
            "sender.example.": '"v=spf1 ip4:127.0.0.1 -all"',
            "_dmarc.sender.example.": '"v=DMARC1; p=reject"',
            "bench._domainkey.sender.example.": f'"v=DKIM1; k=rsa; p={public[:200]}" "{public[200:]}"',
        }
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def tables(self) -> str:
        """Of a configuration that has mail from this machine checked, by this server's answers."""
        port = self._socket.getsockname()[1]
        return f'[inbound]\nunchecked_networks = []\n[resolver]\naddresses = ["127.0.0.1#{port}"]\n'

    def signed(self, messages: Sequence[bytes]) -> list[bytes]:
        """Each with a DKIM-Signature, relaxed/relaxed."""
        form = (b"relaxed", b"relaxed")
        return [dkim.sign(one, b"bench", b"sender.example", self._private, canonicalize=form) + one for one in messages]

    def _serve(self) -> None:
        while True:
            octets, peer = self._socket.recvfrom(4096)
            response = dns.message.make_response(dns.message.from_wire(octets))
            name = response.question[0].name.to_text()
            if name in self._texts:
                response.answer.append(dns.rrset.from_text(name, 3600, "IN", "TXT", self._texts[name]))
            self._socket.sendto(response.to_wire(), peer)

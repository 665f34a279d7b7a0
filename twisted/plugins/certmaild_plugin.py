"""`twistd certmaild`."""

from twisted.application.service import ServiceMaker

certmaild = ServiceMaker(
    "certmaild", "certmaild.service", "A secure mailbox server: IMAPS, POP3S and SMTP.", "certmaild"
)

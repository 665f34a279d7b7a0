"""The limits of every protocol session (PROTOCOLS section 6), one frozen value, each a setting in ``[limits]``."""

from dataclasses import dataclass

from certmaild.mailbox.mime import Scanner

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Defaults as documented; sizes in octets, times in seconds."""

    command_line_before_login: int = 8 * KIB
    command_line: int = 64 * KIB
    literal_before_login: int = 8 * KIB
    literal: int = 64 * KIB
    smtp_command_line: int = 2048
    auth_line: int = 16384
    message_size_port_25: int = 150 * MIB
    message_size: int = 3 * GIB
    unfinished_per_address: int = 1 * GIB
    unfinished: int = 10 * GIB
    header_block: int = 1 * MIB
    recipients: int = 1000
    expanded_recipients: int = 5000
    group_members: int = 1000
    recipients_elsewhere: int = 5000
    connections_per_address: int = 100
    connections: int = 10_000
    sessions_per_credential: int = 30
    sessions_per_mailbox: int = 200
    time_to_log_in: int = 60
    smtp_command_time: int = 300
    smtp_content_time: int = 180
    imap_idle_time: int = 1800
    pop3_idle_time: int = 600
    idle_still_here: int = 120
    bad_commands_before_login: int = 3
    bad_commands: int = 20
    commands_in_flight: int = 64
    mime_parts: int = 1000
    mime_depth: int = 100
    hold_time: int = 30 * 86_400
    dkim_signatures: int = 8
    check_time: int = 15
    service_requests: int = 60
    proof_time: int = 20

    def new_scanner(self) -> Scanner:
        """What looks into a message on its way in, within these limits."""
        return Scanner(max_parts=self.mime_parts, max_depth=self.mime_depth, max_header=self.header_block)

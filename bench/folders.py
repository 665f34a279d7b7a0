"""What a mailbox of many folders costs: `bench/folders.py [--parts N]`.

Makes N folders and one above each ten of them, subscribes to half, and starts the daemon anew. Then it prints, for
commands sent one after another by a process of its own, the server's CPU for each, and what the NOOPs of another
account's client took meanwhile.
"""

import multiprocessing
import tempfile
import time
from pathlib import Path

from clients import Imap
from daemon import Account, Daemon
from figures import percentiles_ms, print_figure, wish

ROUNDS = 40
COMMANDS = {
    "log-in-and-list": [],
    "list": [b'LIST "" *'],
    "list-top": [b'LIST "" %'],
    "lsub": [b'LSUB "" *'],
    "list-status": [b'LIST "" * RETURN (STATUS (MESSAGES UNSEEN UIDNEXT HIGHESTMODSEQ))'],
    "status": [b"STATUS Project-1/Part-10 (MESSAGES)"],
    "rename": [b"RENAME Project-1 Elsewhere", b"RENAME Elsewhere Project-1"],
}
"""Without one: a session that logs in, lists the top and ends, so that the table is decoded each time."""


def log_in(daemon: Daemon, account: Account) -> Imap:
    """An IMAP session."""
    return Imap(daemon.ports["imaps"], daemon.tls_context(), account.address, account.password)


def ask(daemon: Daemon, account: Account, commands: list[bytes]) -> None:
    """A process: the commands in turn, `ROUNDS` in all."""
    imap = log_in(daemon, account)
    for number in range(ROUNDS):
        if commands:
            imap.command(commands[number % len(commands)])
        else:
            imap.lines.close()
            imap = log_in(daemon, account)
            imap.command(b'LIST "" %')


def main() -> None:
    """Run it once in a fresh folder."""
    count = wish("parts", 1800)
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        ann, bob = daemon.add_user("ann"), daemon.add_user("bob")
        imap = log_in(daemon, ann)
        cpu = daemon.cpu_s()
        for number in range(count):
            imap.command(b"CREATE Project-%d/Part-%d" % (number // 10, number))
        print_figure("create", parts=count, server_cpu_ms_each=(daemon.cpu_s() - cpu) / count * 1000)
        for number in range(0, count, 2):
            imap.command(b"SUBSCRIBE Project-%d/Part-%d" % (number // 10, number))
        imap.lines.close()
        bystander = log_in(daemon, bob)
        for name, commands in COMMANDS.items():
            process = multiprocessing.Process(target=ask, args=(daemon, ann, commands))
            cpu, times = daemon.cpu_s(), []
            process.start()
            while process.is_alive():
                begun = time.perf_counter()
                bystander.command(b"NOOP")
                times.append(time.perf_counter() - begun)
                time.sleep(0.002)
            process.join()
            cpu = (daemon.cpu_s() - cpu) / ROUNDS
            print_figure(name, server_cpu_ms_each=cpu * 1000, **percentiles_ms(times), largest_ms=max(times) * 1000)


if __name__ == "__main__":
    main()

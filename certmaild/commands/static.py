"""`certmaild static`: the fixed files for any web server that the site has."""

from collections.abc import Iterator
from pathlib import Path

import click

from certmaild.client_setup.files import AUTODISCOVER_PATH, FixedFile, fixed_files
from certmaild.commands.common import Failed, Place, json_option, pass_place, show
from certmaild.keystore.certificates import write_file
from certmaild.own_facts import gather
from certmaild.peering.dns_records import sts_policy

README = "README.txt"
COLUMNS = {"host": "host", "path": "path", "content_type": "content type"}


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@json_option
@pass_place
def static(place: Place, directory: Path, as_json: bool) -> None:
    """Write the files that mail programs look for.

    They, and other servers, fetch them by HTTPS. Each lies in DIRECTORY/HOST at the path it is fetched from:
    Autoconfig, Autodiscover, profiles for Apple's devices, and the MTA-STS policy where the certificate is by a public
    authority. README.txt says where each belongs. A file is replaced as a whole; nothing is removed.
    """
    config = place.config
    facts = gather(config)
    files = fixed_files(config, None if facts.authority else sts_policy(facts))
    if not files:
        raise Failed("There is nothing to write: [listen] needs imaps or pop3s, and submissions or submission.")
    try:
        for one in files:
            _write(directory / one.host / one.path.lstrip("/"), one.octets)
        _write(directory / README, "\n".join(_readme(files)).encode("ascii"))
        former = sorted({one.name for one in directory.iterdir() if one.is_dir()} - {one.host for one in files})
    except OSError as fault:
        raise Failed(f"{fault.filename or directory} cannot be written: {fault.strerror}.") from None
    rows = [{"host": one.host, "path": one.path, "content_type": one.content_type, "for": one.purpose} for one in files]
    show(rows, COLUMNS, as_json=as_json, empty="")
    if former:
        click.echo(f"Not among them, so perhaps out of date: {', '.join(former)}.", err=True)


def _write(path: Path, octets: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, octets, 0o644)


def _readme(files: list[FixedFile]) -> Iterator[str]:
    yield "Files for a web server. Each directory here is the document root of the host it is named after:"
    yield "HTTPS on port 443, a certificate for that name by an authority that clients trust, no redirect."
    yield "None of the files is secret. After a change of the configuration or the certificate run"
    yield "certmaild static again."
    for one in files:
        yield f"\n{one.host}{one.path}\n    {one.purpose}\n    Content-Type: {one.content_type}"
    if any(one.path == AUTODISCOVER_PATH for one in files):
        yield f"\nOutlook asks for {AUTODISCOVER_PATH} by POST. Apache answers that with a file; nginx needs"
        yield f"    location = {AUTODISCOVER_PATH} {{ error_page 405 =200 $uri; }}"
    yield ""

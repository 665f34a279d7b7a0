"""`certmaild audit`: what was done to accounts, by whom and when."""

from datetime import UTC, datetime, timedelta

import click

from certmaild.commands.common import Failed, Place, json_option, pass_place, show
from certmaild.config import parse_duration
from certmaild.mailbox import audit_log

COLUMNS = {"number": "number", "at": "when", "by": "by", "act": "what", "whom": "whom", "detail": "detail"}


def moment(value: str) -> int:
    """A time on the command line, in seconds since 1970: a date, a date and time (UTC), or how long ago."""
    try:
        return int(datetime.now(UTC).timestamp()) - parse_duration(value)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a time such as 2026-11-23, 2026-11-23T14:00 or 24h.") from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


@click.command()
@click.option("--since", type=moment, help="From this day or time (UTC) on, or so long ago: 2026-11-23, 24h, 30d.")
@click.option("--whom", default="", help="Only what was done to addresses with this text in them, or by it.")
@json_option
@pass_place
def audit(place: Place, since: int | None, whom: str, as_json: bool) -> None:
    """What was done to accounts, the oldest first.

    The whole log is verified each time: that no row was changed, and none taken out of the middle.
    """
    with place.store() as store:
        found, is_whole = store.driver.run(audit_log.read_all(store.engine, store.secrets))
    rows: list[dict[str, object]] = [
        {
            "number": number,
            "at": datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=row.at_s),
            "by": row.by,
            "act": row.act,
            "whom": row.whom,
            "detail": row.detail,
        }
        for number, row in found
        if (since is None or row.at_s >= since) and (not whom or whom.lower() in f"{row.whom} {row.by}".lower())
    ]
    show(rows, COLUMNS, as_json=as_json, empty="Nothing of this kind stands in the audit log.")
    if not is_whole:
        number = found[-1][0] if found else 0
        raise Failed(
            f"The audit log is broken behind row {number}: a row was changed or taken out. What is shown above is"
            " whole; compare with a backup of the store, and find out who could write to its disk."
        )

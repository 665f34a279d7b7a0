"""`certmaild calibrate`: how long hashing a human password takes here."""

import click

from certmaild.commands.common import Place, json_option, pass_place, show_json
from certmaild.keystore.credentials import calibrate as measure
from certmaild.setup import store_rounds

TARGET_S = 0.25


@click.command()
@json_option
@pass_place
def calibrate(place: Place, as_json: bool) -> None:
    """Measure how long hashing a password takes here.

    It chooses the rounds of bcrypt.kdf for about 250 ms (64 to 512) and keeps them for new passwords.
    A running server uses them after its next start; existing passwords are stretched anew at their next log-in.
    """
    rounds = measure(TARGET_S)
    with place.store() as store:
        store.driver.run(store_rounds(store.engine, rounds))
        fixed = store.config.passwords.rounds
    if as_json:
        show_json({"rounds": rounds, "configured": fixed})
        return
    click.echo(f"{rounds} rounds take about {TARGET_S * 1000:.0f} ms here, or are the least or the most allowed.")
    if fixed is not None:
        click.echo(f"The configuration says {fixed}, which counts.")

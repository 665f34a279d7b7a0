"""Any byte changed, any two values swapped, one value doubled: the reader refuses (KEYS section 17)."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from mailbox_support import ALL, House, mail, make_house
from support import memory_engine, run

from certmaild.keystore.errors import KeystoreError
from certmaild.mailbox.errors import MailboxError
from certmaild.mailbox.layout import Table
from certmaild.mailbox.search import TextHas
from certmaild.mailbox.values import FlagOp, Flags, SystemFlag

SEALED = (
    Table.UHEAD,
    Table.FOLDERS,
    Table.HEAD,
    Table.PAGE,
    Table.GONE,
    Table.CARD,
    Table.OWN,
    Table.USE,
    Table.ACCT,
    Table.BLOB,
    Table.IN,
    Table.TAIL,
    Table.TEXT,
)
"""Rows of the message half and of deliveries; REF, DEAD and STAGE are clear by design, keys and accounts have their own
test."""
REFUSED = (MailboxError, KeystoreError)


class Street:
    """Two users on one engine, with something in every table."""

    def __init__(self, directory: Path) -> None:
        engine = memory_engine()
        self.joe = make_house(directory, engine)
        self.ann = make_house(directory, engine, secrets=self.joe.secrets)
        self.engine = engine
        for n, house in enumerate((self.joe, self.ann)):
            big = "x" * 70_000 if n == 0 else "y"
            parts = "".join(f'--b\r\nContent-Type: text/plain; name="{i:060}"\r\n\r\n{i}\r\n' for i in range(400))
            bulky = f"Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n".encode()
            house.append(mail("one", big), mail("two"), bulky, box="INBOX")
            house.append(*[mail(str(i)) for i in range(4)], box="Archive")
            run(house.mailbox.store_flags(house.box("Archive"), [range(2, 4)], FlagOp.ADD, Flags(SystemFlag.DELETED)))
            run(house.mailbox.expunge(house.box("Archive"), [range(2, 3)]))
            run(house.mailbox.expunge(house.box("Archive"), [range(3, 4)]))
            for box in ("INBOX", "Archive"):
                assert run(house.mailbox._keeper.extend(house.box(box), 1, 3 if box == "INBOX" else 4))
            house.mailbox.close()
            house.deliver(mail("waiting 1"), mail("waiting 2"))
        self.before = self.joe.rows()

    def restore(self) -> None:
        now = self.joe.rows()

        def work(txn) -> None:  # type: ignore[no-untyped-def]
            for place in now.keys() - self.before.keys():
                txn.delete(*place)
            for place, value in self.before.items():
                if now.get(place) != value:
                    txn.put(*place, value)

        run(self.engine.write(work))

    def read_all(self, house: House) -> None:
        """Everything a user can come to read, and what his next arrival and deletion read."""
        house.reopen()
        mailbox = house.mailbox
        try:
            run(mailbox.quota())
            run(mailbox.absorb())
            if mailbox._absorber.alarm is not None:
                raise AlarmRaised
            for folder in run(mailbox.folders()):
                state = run(mailbox.select(folder.box_id))
                run(mailbox.vanished_since(folder.box_id, 0))
                run(mailbox.find(folder.box_id, TextHas("found nowhere")))
                for block in house.blocks(folder.box_id):
                    for card in run(mailbox.cards(block)):
                        assert card is not None and card.envelope and card.parts
                        run(mailbox.content(card).whole())
                if len(state.uids):
                    run(mailbox.copy(folder.box_id, ALL, house.box("Trash")))
            if mailbox._keeper.alarmed:
                raise AlarmRaised
            house.deliver(mail("next"))
        finally:
            mailbox.close()


class AlarmRaised(MailboxError):
    """The queue of arrivals is not taken in any more, or search texts are made anew."""


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Street:
    return Street(tmp_path_factory.mktemp("street"))


def positions(value: bytes) -> Iterator[int]:
    """All of the header, nonce and tail, and a sample of what lies between."""
    edge = 46
    if len(value) <= 2 * edge:
        return iter(range(len(value)))
    step = max(1, (len(value) - 2 * edge) // 12)
    return itertools.chain(range(edge), range(edge, len(value) - edge, step), range(len(value) - edge, len(value)))


@pytest.mark.parametrize("table", SEALED)
def test_a_changed_byte_is_refused(street: Street, table: Table) -> None:
    blobs = blob_ids_of(street)
    places = [place for place in street.before if place[0] is table and owner_of(street, place, blobs) is street.joe]
    assert places
    for place in places[:3] + places[-1:]:
        value = street.before[place]
        for at in positions(value):
            changed = bytearray(value)
            changed[at] ^= 1 + at % 255
            street.joe.put(*place, bytes(changed))
            with pytest.raises(REFUSED):
                street.read_all(street.joe)
            street.restore()


def blob_ids_of(street: Street) -> set[bytes]:
    """Blobs of joe's absorbed and waiting messages."""
    from certmaild.mailbox.layout import decode_own

    return {
        bytes(decode_own(street.joe.secrets.open_row(table, key, value)).blob_id)
        for (table, key), value in street.before.items()
        if table is Table.OWN and key.startswith(street.joe.user_id)
    }


def owner_of(street: Street, place: tuple[Table, bytes], blobs: set[bytes]) -> House:
    table, key = place
    mine = key[:16] in blobs if table is Table.BLOB else key.startswith(street.joe.user_id)
    return street.joe if mine else street.ann


@pytest.mark.parametrize("table", SEALED)
def test_swapped_values_are_refused(street: Street, table: Table) -> None:
    """Within a user, between users, and a value put in another's place."""
    blobs = blob_ids_of(street)
    mine = [place for place in street.before if place[0] is table and owner_of(street, place, blobs) is street.joe]
    others = [place for place in street.before if place[0] is table and place not in mine]
    for one, two in [*itertools.combinations(mine[:5], 2), *zip(mine[:3], others[:3], strict=False)]:
        a, b = street.before[one], street.before[two]
        street.joe.put(*one, b)
        with pytest.raises(REFUSED):
            street.read_all(street.joe)
        street.joe.put(*one, b)  # what is derived was made anew meanwhile
        street.joe.put(*two, a)
        with pytest.raises(REFUSED):
            street.read_all(street.joe)
        street.restore()


def test_values_of_other_tables_are_refused(street: Street) -> None:
    some = {table: next(place for place in street.before if place[0] is table) for table in SEALED}
    blobs = blob_ids_of(street)
    for one, two in itertools.permutations(SEALED, 2):
        target = next(p for p in street.before if p[0] is one and owner_of(street, p, blobs) is street.joe)
        street.joe.put(*target, street.before[some[two]])
        with pytest.raises(REFUSED):
            street.read_all(street.joe)
        street.restore()


def test_the_untouched_store_reads(street: Street) -> None:
    street.read_all(street.joe)
    street.restore()
    street.read_all(street.ann)
    street.restore()

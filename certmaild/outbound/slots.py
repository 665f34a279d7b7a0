"""How many connections to other servers are open at once."""


class Slots:
    """Counts connections of all lanes. Both limits may be changed at any time."""

    def __init__(self, each: int, in_all: int) -> None:
        self.each = each
        """At most to one destination."""
        self.in_all = in_all
        self.taken = 0

    def take(self) -> None:
        """One more."""
        self.taken += 1

    def give_back(self) -> None:
        """One less."""
        self.taken -= 1

    def admits(self, planned: int, *, failed: bool) -> bool:
        """Whether one more destination may be worked on, when ``planned`` others are about to take a connection.

        Those that ``failed`` last time share half of the connections: however long each attempt takes, they keep no
        others from theirs.
        """
        return self.taken + planned < (self.in_all // 2 if failed else self.in_all)

    @property
    def is_roomy(self) -> bool:
        """Whether nobody waits for the room that an idle connection takes."""
        return self.taken < self.in_all // 2

    def has_room_beside(self, own: int) -> bool:
        """Whether a destination that has so many may have one more."""
        return own < self.each and self.taken < self.in_all

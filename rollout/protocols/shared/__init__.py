"""What protocols share: the interface they implement, tags, barriers, votes, parsers. No protocol is here."""

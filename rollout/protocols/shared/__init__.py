"""Code shared by protocols: their interface, tags, barriers, votes, parsers. No protocol is here."""

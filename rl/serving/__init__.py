"""The server of `braid serve`: an export's protocols behind the OpenAI API, and a page at `/`."""

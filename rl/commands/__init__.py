"""One file a command: `add` declares its options, `run` carries it out."""

"""Verifiers and reward terms of extensions, put into the registries of this process."""

from data.errors import ConfigError
from data.extensions import Entry, Extension
from rewards.compose import TERM_PARAMS, TERMS
from rewards.term import TermParams
from rewards.verifiers.base import VerifierParams
from rewards.verifiers.registry import VERIFIER_PARAMS, VERIFIERS


def add_verifier(entry: Entry) -> None:
    """Add a verifier. Raises ConfigError when its parameters are of another kind."""
    params = entry.params
    if params is None or not issubclass(params, VerifierParams):
        base = "rewards.verifiers.base.VerifierParams"
        raise ConfigError(f"verifier {entry.name!r}: its parameters are no subclass of {base}")
    VERIFIERS[entry.name], VERIFIER_PARAMS[entry.name] = entry.value, params


def add_term(entry: Entry) -> None:
    """Add a reward term. Raises ConfigError when its parameters are of another kind."""
    params = entry.params
    if params is None or not issubclass(params, TermParams):
        raise ConfigError(f"term {entry.name!r}: its parameters are no subclass of rewards.term.TermParams")
    TERMS[entry.name], TERM_PARAMS[entry.name] = entry.value, params


def add_verifiers(extension: Extension) -> None:
    """Add the verifiers of an extension: all that the process of a verifier needs of it."""
    for entry in extension.entries:
        if entry.kind == "verifier":
            add_verifier(entry)

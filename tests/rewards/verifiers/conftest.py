"""One pool of processes for each verifier, shared by all tests of a session."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from verifier_lab import params

from rewards.verifiers.base import Outcome, Sample
from rewards.verifiers.process import VerifierPool

Verify = Callable[..., Outcome]


@pytest.fixture(scope="session")
def verify() -> Iterator[Verify]:
    """(gold, answer, **keys of the verifier) -> the outcome, from a process that later calls use again."""
    pools: dict[str, VerifierPool] = {}

    def one(gold: str | tuple[str, ...], answer: str, **keys: Any) -> Outcome:
        fields = keys.pop("fields", {})
        wanted = params(**{"processes": 1, "seconds": 20.0, **keys})
        pool = pools.setdefault(wanted.model_dump_json(), VerifierPool(wanted))
        golds = (gold,) if isinstance(gold, str) else gold
        (outcome,) = pool.verify([Sample(question="?", answer=answer, gold=golds, fields=fields)])
        return outcome

    yield one
    for pool in pools.values():
        pool.close()

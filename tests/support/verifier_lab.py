"""Parameters of verifiers for tests, as a recipe gives them."""

import json
from typing import Any

from pydantic import TypeAdapter

from rewards.verifiers.base import VerifierParams
from rewards.verifiers.registry import VerifierConfig


def params(**keys: Any) -> VerifierParams:
    """Parameters of a verifier, as a recipe gives them."""
    found: VerifierParams = TypeAdapter[VerifierParams](VerifierConfig).validate_json(json.dumps(keys))
    return found

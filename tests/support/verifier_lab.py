"""Parameters of verifiers for tests, as a recipe gives them."""

import json
from typing import Any

from pydantic import TypeAdapter

from rewards.verifiers.registry import AnyVerifierParams, VerifierConfig


def params(**keys: Any) -> AnyVerifierParams:
    """Parameters of a verifier, as a recipe gives them."""
    found: AnyVerifierParams = TypeAdapter[AnyVerifierParams](VerifierConfig).validate_json(json.dumps(keys))
    return found

"""The verifiers that recipes can name."""

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

from data.registered import Registered, by_name
from rewards.verifiers.base import Verifier, VerifierParams
from rewards.verifiers.choice import ChoiceParams, ChoiceVerifier
from rewards.verifiers.exact import ExactParams, ExactVerifier
from rewards.verifiers.gsm8k import Gsm8kParams, Gsm8kVerifier
from rewards.verifiers.ifeval import IfevalParams, IfevalVerifier
from rewards.verifiers.json_value import JsonParams, JsonVerifier
from rewards.verifiers.math_answer import MathParams, MathVerifier
from rewards.verifiers.numeric import NumericParams, NumericVerifier
from rewards.verifiers.program import CodeParams, CodeVerifier
from rewards.verifiers.reasoning_gym import ReasoningGymParams, ReasoningGymVerifier
from rewards.verifiers.user_function import PythonParams, PythonVerifier

VERIFIERS: dict[str, Callable[[Any], Verifier]] = {
    "math": MathVerifier,
    "gsm8k": Gsm8kVerifier,
    "exact": ExactVerifier,
    "numeric": NumericVerifier,
    "choice": ChoiceVerifier,
    "json": JsonVerifier,
    "code": CodeVerifier,
    "reasoning_gym": ReasoningGymVerifier,
    "ifeval": IfevalVerifier,
    "python": PythonVerifier,
}
"""Name -> the verifier's class, called with its parameters in a child process."""

VERIFIER_PARAMS: dict[str, type[VerifierParams]] = by_name(
    MathParams,
    Gsm8kParams,
    ExactParams,
    NumericParams,
    ChoiceParams,
    JsonParams,
    CodeParams,
    ReasoningGymParams,
    IfevalParams,
    PythonParams,
)
"""Name -> the keys of a verifier in a recipe."""

VerifierConfig: TypeAlias = Annotated[VerifierParams, Registered(lambda: VERIFIER_PARAMS)]
"""Schema of a recipe's `task.verifier`."""


def from_shorthand(value: Any) -> Any:
    """`math` stands for {name: math}, and `python: FILE.py:FUNCTION` for a function of the user's own."""
    if isinstance(value, dict) and set(value) == {"python"}:
        value = f"python: {value['python']}"
    if not isinstance(value, str):
        return value
    own = re.fullmatch(r"python\s*:\s*(?P<file>.+):(?P<function>\w+)", value.strip())
    return {"name": "python", **own.groupdict()} if own else {"name": value}


def build_verifier(params: VerifierParams) -> Verifier:
    """The verifier whose parameters these are."""
    return VERIFIERS[params.name](params)

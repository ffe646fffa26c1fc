"""JSON answers, compared as values: key order, white space and 1 against 1.0 do not matter."""

import json
import re
from typing import Any, Literal

from rewards.verifiers.base import Outcome, Sample, VerifierParams, best_of, graded, no_answer, no_gold

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)


class JsonParams(VerifierParams):
    """What of the gold value the answer must have."""

    name: Literal["json"]
    """Name of the verifier."""
    compare: Literal["equal", "contains", "keys"] = "equal"
    """equal: the same value. contains: an object with every key of the gold object and its value, and maybe
    others. keys: an object with exactly the gold object's keys and values of the same types.
    """


def parse_json(text: str) -> Any:
    """The value of a text or of its last fenced block.

    Raises:
        ValueError: it is not JSON, or has NaN, infinities or a key twice.
    """
    fenced = _FENCED.findall(text)
    return json.loads(fenced[-1] if fenced else text, parse_constant=_refuse, object_pairs_hook=_object)


def same_value(first: Any, second: Any) -> bool:
    """Equality of JSON values: true is not 1, and 1 is 1.0."""
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same_value(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same_value, first, second))
    return bool(first == second)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError("an object has a key twice")
    return dict(pairs)


def _kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


class JsonVerifier:
    """The answer's value is that of a gold answer, or has its keys."""

    def __init__(self, params: JsonParams) -> None:
        self._compare = params.compare

    def __call__(self, sample: Sample) -> Outcome:
        """Compare the values that both texts stand for."""
        try:
            answer, unread = parse_json(sample.answer), None
        except (ValueError, RecursionError) as error:
            answer, unread = None, f"the answer is not JSON ({error})"

        def compare(text: str) -> Outcome:
            try:
                gold = parse_json(text)
            except (ValueError, RecursionError) as error:
                return no_gold(f"the gold answer is not JSON ({error})")
            if self._compare != "equal" and not isinstance(gold, dict):
                return no_gold("the gold answer is no JSON object")
            return graded(self._agrees(gold, answer)) if unread is None else no_answer(unread)

        return best_of(sample, compare)

    def _agrees(self, gold: Any, answer: Any) -> bool:
        if self._compare == "equal":
            return same_value(gold, answer)
        if not isinstance(answer, dict):
            return False
        if self._compare == "contains":
            return all(key in answer and same_value(gold[key], answer[key]) for key in gold)
        return gold.keys() == answer.keys() and all(_kind(gold[key]) == _kind(answer[key]) for key in gold)

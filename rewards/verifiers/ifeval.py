"""Verifiable instructions, as in IFEval: a response follows each or it does not.

The instructions are in the row, `instruction_id_list` and `kwargs` as Google writes them, or in the gold
answer as open-instruct writes them: [{"instruction_id": [...], "kwargs": [...]}].
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from rewards.verifiers.base import Outcome, Sample, VerifierParams, graded, no_answer, no_gold
from rewards.verifiers.instructions import INSTRUCTIONS

_IDS = ("instruction_id_list", "instruction_id")


class IfevalParams(VerifierParams):
    """No keys of its own; the instructions are in the rows."""

    name: Literal["ifeval"]
    """Name of the verifier."""

    verifies_gold: ClassVar[bool] = False


class IfevalVerifier:
    """The response follows all instructions; the score is the share that it follows."""

    def __init__(self, params: IfevalParams) -> None:
        self._params = params

    def __call__(self, sample: Sample) -> Outcome:
        """Try every instruction of the row."""
        try:
            instructions = read_instructions(sample)
            if not sample.answer.strip():
                return no_answer("the answer is empty")
            followed = [INSTRUCTIONS[name](sample.answer, kwargs) for name, kwargs in instructions]
        except (KeyError, TypeError, ValueError) as error:
            return no_gold(f"the row's instructions cannot be read ({type(error).__name__}: {error})")
        broken = [name for (name, _), good in zip(instructions, followed, strict=True) if not good]
        share = sum(followed) / len(followed)
        return graded(not broken, f"broke {', '.join(broken)}" if broken else "", score=share)


def read_instructions(sample: Sample) -> list[tuple[str, Mapping[str, Any]]]:
    """(id, arguments) of each instruction.

    Raises:
        KeyError, TypeError or ValueError: they cannot be read.
    """
    holder: Any = sample.fields
    if not any(name in holder for name in _IDS):
        holder = json.loads(sample.gold[0]) if sample.gold else {}
        holder = holder[0] if isinstance(holder, list) and holder else holder
    ids: Sequence[str] = next((holder[name] for name in _IDS if name in holder), [])
    kwargs = holder.get("kwargs") or [None] * len(ids)
    kwargs = json.loads(kwargs) if isinstance(kwargs, str) else kwargs
    if not ids or len(ids) != len(kwargs):
        raise ValueError(f"{len(ids)} ids and {len(kwargs)} kwargs")
    unknown = [name for name in ids if name not in INSTRUCTIONS]
    if unknown:
        raise ValueError(f"there is no instruction {unknown[0]!r}")
    return [
        (name, {key: value for key, value in (given or {}).items() if value is not None})
        for name, given in zip(ids, kwargs, strict=True)
    ]

"""Batching of a call's outputs: the core process sends many tokens of a call at once, not each alone. Pure.

vLLM sends every sampled token at once, with its log-probability in three small arrays; reading them cost
the front end a third of a core. No caller here reads a call before it has ended.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

MOST = 32
"""Most steps of a call that are held back."""


class HeldOutputs:
    """Outputs that the core has not sent yet, by call. Outputs are vLLM's `EngineCoreOutput`."""

    def __init__(self) -> None:
        self._held: dict[str, list[Any]] = {}

    def add(self, output: Any, *, at_once: bool = False) -> Any | None:
        """Add the output of one step of a call. -> all held outputs when they are due: at the call's end,
        after `MOST` steps, with `at_once`, or when the output has more than sampled tokens; else None.
        """
        held = self._held.setdefault(output.request_id, [])
        held.append(output)
        plain = output.finish_reason is None and output.new_prompt_logprobs_tensors is None
        if plain and not at_once and len(held) < MOST:
            return None
        return self.take(output.request_id)

    def take(self, call: str) -> Any | None:
        """Remove the held outputs of a call. -> them as one, or None."""
        held = self._held.pop(call, None)
        return merged(held) if held else None

    def take_all(self) -> list[Any]:
        """Remove the held outputs of all calls. -> them, one for each call."""
        return [output for call in list(self._held) if (output := self.take(call)) is not None]


def merged(outputs: Sequence[Any]) -> Any:
    """One output with the content of several outputs of one call, in order."""
    last = outputs[-1]
    if len(outputs) == 1:
        return last
    last.new_token_ids = [token for output in outputs for token in output.new_token_ids]
    found = [output.new_logprobs for output in outputs if output.new_logprobs is not None]
    if found:
        ids, logprobs, ranks = (np.concatenate([lists[part] for lists in found]) for part in range(3))
        last.new_logprobs = type(found[0])(ids, logprobs, ranks)
    # Only the first step of a call, and a step after a preemption, has them.
    last.prefill_stats = next((o.prefill_stats for o in outputs if o.prefill_stats is not None), None)
    return last

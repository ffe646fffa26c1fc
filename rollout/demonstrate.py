"""A solver's search tree becomes a demonstration episode, through the very machine that drives rollouts.

The protocol's `teach` plays the model. Contexts, joins and violations come from the same code as at run
time, so what is demonstrated is exactly what will be run.
"""

from data.search_tree import SearchTree
from data.trajectory import Episode, StopReason
from rollout.machine import CallResult, Command, EpisodeMachine, Generate
from rollout.protocols.base import Budgets, ThinkingProtocol


def demonstrate(
    protocol: ThinkingProtocol,
    prompt: tuple[int, ...],
    tree: SearchTree,
    *,
    id: str,
    problem: str,
    budgets: Budgets,
    max_length: int,
) -> Episode | None:
    """The demonstration, or None when it does not fit the budgets (a truncated example would teach to stop
    early).
    """
    machine = EpisodeMachine(protocol, prompt, id=id, problem=problem, budgets=budgets, max_length=max_length)
    queue: list[Command] = machine.begin(tree)
    while queue:
        command = queue.pop(0)
        assert isinstance(command, Generate), "a demonstration waits for all its threads"
        output = protocol.teach(tree, command.path, command.number)
        if len(output) > command.max_tokens:
            return None
        assert output[-1] in command.stops, (
            f"{protocol.name} teaches a call that does not end in a stop token"
        )
        queue += machine.on_result(
            command.call, CallResult(output=output, logprobs=(), versions=(), stop=StopReason.STOP)
        )
    episode = machine.episode()
    return None if episode.violations else episode

"""Demonstrations: a solver's search tree becomes an episode, through the machine that drives rollouts.

The protocol's `teach` takes the role of the model, and every step that it writes has the score 1. Contexts,
joins and violations come from the same code as at run time, so a demonstration has exactly the form of a
rollout.
"""

from itertools import count

from data.episodes.trajectory import Episode, StopReason, ThreadOutcome
from data.errors import ConfigError
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt
from rollout.commands import CallResult, Cancel, Command, Score, ScoreResult, Withdraw
from rollout.machine import EpisodeMachine
from rollout.protocols import passing_results_on
from rollout.protocols.shared.base import ThinkingProtocol

_ENDED_WELL = (ThreadOutcome.RETURNED, ThreadOutcome.CANCELLED)


def demonstrate(
    protocol: ThinkingProtocol,
    prompt: Prompt,
    tree: SearchTree,
    *,
    id: str,
    problem_id: str,
    max_length: int,
) -> Episode | None:
    """The demonstration, or None when it does not fit the budgets (a truncated example would teach to stop
    early).

    Raises ConfigError when parts of the search need each other's solutions and the protocol cannot pass them.
    """
    if not protocol.handles_needs and any(child.needs for child in tree.children):
        raise ConfigError(
            f"protocol.name: {protocol.name} cannot demonstrate parts that need each other's results\n"
            f"  fix: take a task without such parts, or one of {', '.join(passing_results_on())}"
        )
    machine = EpisodeMachine(protocol, prompt, id=id, problem_id=problem_id, max_length=max_length)
    queue: list[Command] = machine.begin(tree)
    cancelled: set[int] = set()
    times = count()

    def result(output: tuple[int, ...], stop: StopReason) -> CallResult:
        # Not sampled: the times only give the order in which the calls came back.
        time = float(next(times))
        return CallResult(output=output, logprobs=(), versions=(), stop=stop, started_s=time, finished_s=time)

    while queue:
        command = queue.pop(0)
        if isinstance(command, Cancel):
            cancelled.add(command.call)
            continue
        if isinstance(command, Withdraw):
            continue
        if isinstance(command, Score):
            if Withdraw(scoring=command.scoring) not in queue:
                scores = ((1.0,),) * len(command.texts)
                queue += machine.on_scores(command.scoring, ScoreResult(scores=scores))
            continue
        cancelled.update(later.call for later in queue if isinstance(later, Cancel))
        if command.call in cancelled:
            queue += machine.on_result(command.call, result((), StopReason.ABORT))
            continue
        output = protocol.teach(tree, command.path, command.number)
        if len(output) > command.max_tokens:
            return None
        # Without a stop token the output is a piece of a longer text, cut at the call's limit.
        cut = not command.stops.texts and output[-1] not in command.stops.ids
        stop = StopReason.LENGTH if cut else StopReason.STOP
        queue += machine.on_result(command.call, result(output, stop))
    episode = machine.episode()
    whole = all(thread.outcome in _ENDED_WELL for thread in episode.threads)
    return episode if whole and not episode.violations else None

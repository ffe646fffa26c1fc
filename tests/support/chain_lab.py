"""Drive a protocol with log-probabilities of the test's choosing: who is confident decides some votes."""

from protocol_lab import PROMPT, ids

from data.episodes.trajectory import Episode, StopReason, VersionSpan
from rollout.commands import CallResult, Generate
from rollout.machine import EpisodeMachine
from rollout.protocols import ThinkingProtocol

Place = tuple[tuple[int, ...], int]


def play(protocol: ThinkingProtocol, lines: dict[Place, tuple[str, list[float]]]) -> Episode:
    """Calls come back in the order in which they were asked for, each as its line and log-probabilities say.

    One log-probability is that of every token.
    """
    machine = EpisodeMachine(protocol, PROMPT, id="0/0", problem_id="p", max_length=1000)
    commands = machine.begin()
    while commands:
        command = commands.pop(0)
        assert isinstance(command, Generate), "nothing is cancelled here"
        text, logprobs = lines[command.path, command.number]
        output = ids(text)
        commands += machine.on_result(
            command.call,
            CallResult(
                output=output,
                logprobs=tuple(logprobs * len(output) if len(logprobs) == 1 else logprobs),
                versions=(VersionSpan(version=0, start=0, stop=len(output)),),
                stop=StopReason.STOP,
            ),
        )
    return machine.episode()

"""Episodes as text that people write and read, and back: one entry for each call, with context and output.

    protocol: spawn_join
    prompt: 37 10 9 4 2
    calls:
      - {thread: [], sees: <parent> 37 10 9 4 2 <think>, says: <spawn> 37 9 * 4 10 2 <join>}
      - {thread: [0], sees: <child> 37 9 * 4 10 2 <think>, says: 36 <nothing> <eos>}

Reading runs the protocol's own machine on the outputs; nothing of the DAG is in the text. So a transcript
that reads back to the same episode proves that it follows from the protocol's rules alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from data.episodes.trajectory import Episode, StopReason, VersionSpan
from data.errors import TrajectoryError
from data.text.prompt import Prompt
from rollout.commands import CallResult, Cancel, Command, Generate
from rollout.machine import EpisodeMachine
from rollout.protocols.shared.base import EOS, Encoder, ThinkingProtocol
from rollout.protocols.shared.flat_text import SaidCall

_STOPS = {stop.value: stop for stop in StopReason}


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcript:
    """A protocol's name, a prompt, and the calls of one episode as text."""

    protocol: str
    prompt: str
    calls: tuple[SaidCall, ...]


def load_transcript(document: str) -> Transcript:
    """Read a transcript from YAML. Raises TrajectoryError for text that is not one."""
    try:
        raw = yaml.safe_load(document)
        calls = tuple(
            SaidCall(
                path=tuple(int(key) for key in call["thread"]),
                says=str(call["says"]),
                sees=None if call.get("sees") is None else str(call["sees"]),
                stop=_STOPS[call.get("stop", "stop")],
            )
            for call in raw["calls"]
        )
        return Transcript(protocol=str(raw["protocol"]), prompt=str(raw["prompt"]), calls=calls)
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise TrajectoryError(
            f"transcript: {error!r}; it needs protocol, prompt, and calls with thread and says"
        ) from error


def dump_transcript(transcript: Transcript) -> str:
    """YAML that `load_transcript` reads."""
    calls: list[dict[str, Any]] = []
    for call in transcript.calls:
        entry: dict[str, Any] = {"thread": list(call.path), "sees": call.sees, "says": call.says}
        if call.stop is not StopReason.STOP:
            entry["stop"] = call.stop.value
        calls.append(entry)
    document = {"protocol": transcript.protocol, "prompt": transcript.prompt, "calls": calls}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=10_000)


def transcript_of(episode: Episode, prompt: str, encoder: Encoder) -> Transcript:
    """An episode as text. Calls are in the order in which they came back, since cancelling depends on it.

    `prompt`: the task's prompt, which is part of the contexts.
    """
    paths: list[tuple[int, ...]] = []
    for thread in episode.threads:
        paths.append(() if thread.parent is None else (*paths[thread.parent], thread.key))
    calls = tuple(
        SaidCall(
            path=paths[call.thread],
            says=spell(call.output, encoder),
            sees=spell(episode.context_ids(call), encoder),
            stop=call.stop,
        )
        for call in sorted(episode.calls, key=lambda call: call.finished_s)
    )
    return Transcript(protocol=episode.protocol, prompt=prompt, calls=calls)


def read_transcript(
    transcript: Transcript,
    protocol: ThinkingProtocol,
    encoder: Encoder,
    *,
    id: str = "transcript",
    problem_id: str = "transcript",
    max_length: int = 1 << 20,
) -> Episode:
    """The episode that the protocol makes of these calls.

    Raises TrajectoryError when the protocol asks for a call that the transcript lacks, gives it another
    context than the transcript's, or ends without some of the transcript's calls.
    """
    machine = EpisodeMachine(
        protocol, Prompt(transcript.prompt), id=id, problem_id=problem_id, max_length=max_length
    )
    said = _by_key(transcript.calls)
    flying: dict[int, Generate] = {}
    cancelled: set[int] = set()

    def take(commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Cancel):
                cancelled.add(command.call)
            else:
                flying[command.call] = command

    take(machine.begin())
    while not machine.done:
        key, call, entry = _next(flying, cancelled, said)
        generate = flying.pop(call)
        _compare(entry, spell(generate.prompt, encoder), key)
        output = protocol.say(*_parts(entry.says))
        versions = (VersionSpan(version=0, start=0, stop=len(output)),)
        result = CallResult(output=output, logprobs=(0.0,) * len(output), versions=versions, stop=entry.stop)
        del said[key]
        take(machine.on_result(call, result))
    if said:
        raise TrajectoryError(f"transcript: {protocol.name} never makes {_name(next(iter(said)))}")
    return machine.episode()


def spell(ids: Sequence[int], encoder: Encoder) -> str:
    """The text of ids, with `<eos>` for the end of the sequence; exact where the tokenizer's text is."""
    pieces = zip(ids, encoder.pieces(ids), strict=True)
    end = f" {EOS}" if encoder.words_only else EOS
    text = "".join(end if index in encoder.ends else piece for index, piece in pieces)
    return text.strip() if encoder.words_only else text


def _parts(says: str) -> tuple[str, ...]:
    return (says.removesuffix(EOS), EOS) if says.endswith(EOS) else (says,)


CallKey = tuple[tuple[int, ...], int]


def _by_key(calls: Sequence[SaidCall]) -> dict[CallKey, SaidCall]:
    by_key: dict[CallKey, SaidCall] = {}
    counts: dict[tuple[int, ...], int] = {}
    for call in calls:
        number = counts.get(call.path, 0)
        counts[call.path] = number + 1
        by_key[call.path, number] = call
    return by_key


def _next(
    flying: dict[int, Generate], cancelled: set[int], said: dict[CallKey, SaidCall]
) -> tuple[CallKey, int, SaidCall]:
    """The call in flight that comes back first, by the transcript's order; aborted calls come after their
    cancel.
    """
    waiting = {(generate.path, generate.number): call for call, generate in flying.items()}
    for key, entry in said.items():
        call = waiting.get(key)
        if call is not None and (entry.stop is not StopReason.ABORT or call in cancelled):
            return key, call, entry
    raise TrajectoryError(f"transcript: has no entry for {_name(min(waiting))}")


def _compare(entry: SaidCall, shown: str, key: CallKey) -> None:
    if entry.sees is not None and entry.sees.split() != shown.split():
        raise TrajectoryError(f"transcript: {_name(key)} sees {shown!r}, not {entry.sees!r}")


def _name(key: CallKey) -> str:
    path, number = key
    return f"call {number} of thread {list(path)}"

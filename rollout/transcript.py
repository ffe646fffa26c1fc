"""Episodes as text that people write and read, and back: one entry for each call, with context and output.

    protocol: spawn_join
    prompt: 37 10 9 4 2
    calls:
      - {thread: [], sees: <parent> 37 10 9 4 2 <think>, says: <spawn> 37 9 * 4 10 2 <join>}
      - {thread: [0], sees: <child> 37 9 * 4 10 2 <think>, says: 36 <nothing> <eos>}

Answers of a scorer stand among the calls: `{thread: [], scores: [[0.9], [0.2, 0.4]]}`, the scores of each
text's steps, in the order of the texts.

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
from rollout.commands import CallResult, Cancel, Command, Generate, Score, ScoreResult, Withdraw
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
                says="" if "scores" in call else str(call["says"]),
                sees=None if call.get("sees") is None else str(call["sees"]),
                stop=_STOPS[call.get("stop", "stop")],
                scores=_scores(call["scores"]) if "scores" in call else None,
            )
            for call in raw["calls"]
        )
        return Transcript(protocol=str(raw["protocol"]), prompt=str(raw["prompt"]), calls=calls)
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise TrajectoryError(
            f"transcript: {error!r}; it needs protocol, prompt, and calls with thread and says (or scores)"
        ) from error


def _scores(rows: list[list[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in rows)


def dump_transcript(transcript: Transcript) -> str:
    """YAML that `load_transcript` reads."""
    calls: list[dict[str, Any]] = []
    for call in transcript.calls:
        if call.scores is not None:
            calls.append({"thread": list(call.path), "scores": [list(each) for each in call.scores]})
            continue
        entry: dict[str, Any] = {"thread": list(call.path), "sees": call.sees, "says": call.says}
        if call.stop is not StopReason.STOP:
            entry["stop"] = call.stop.value
        calls.append(entry)
    document = {"protocol": transcript.protocol, "prompt": transcript.prompt, "calls": calls}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=10_000)


def transcript_of(episode: Episode, prompt: str, encoder: Encoder) -> Transcript:
    """An episode as text. Calls and answers of the scorer are in the order in which they came back, since
    cancelling depends on it; a question without an answer is not in it.

    `prompt`: the task's prompt, which is part of the contexts.
    """
    paths: list[tuple[int, ...]] = []
    for thread in episode.threads:
        paths.append(() if thread.parent is None else (*paths[thread.parent], thread.key))
    entries = [
        (
            call.finished_s,
            SaidCall(
                path=paths[call.thread],
                says=spell(call.output, encoder),
                sees=spell(episode.context_ids(call), encoder),
                stop=call.stop,
            ),
        )
        for call in episode.calls
    ]
    entries += [
        (scoring.finished_s, SaidCall(path=paths[scoring.thread], says="", scores=scoring.scores))
        for scoring in episode.scorings
        if not scoring.failure
    ]
    calls = tuple(entry for _, entry in sorted(entries, key=lambda entry: entry[0]))
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
    flying: dict[CallKey, Generate | Score] = {}
    cancelled: set[int] = set()

    def take(commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Cancel):
                cancelled.add(command.call)
            elif isinstance(command, Withdraw):
                withdrawn = (each for each in flying.values() if isinstance(each, Score))
                del flying[next(_key(each) for each in withdrawn if each.scoring == command.scoring)]
            else:
                flying[_key(command)] = command

    take(machine.begin())
    while not machine.done:
        key, entry = _next(flying, cancelled, said)
        command = flying.pop(key)
        del said[key]
        if isinstance(command, Score):
            take(machine.on_scores(command.scoring, _answer(entry, command, key)))
            continue
        _compare(entry, spell(command.prompt, encoder), key)
        output = protocol.say(*_parts(entry.says))
        versions = (VersionSpan(version=0, start=0, stop=len(output)),)
        result = CallResult(output=output, logprobs=(0.0,) * len(output), versions=versions, stop=entry.stop)
        take(machine.on_result(command.call, result))
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


CallKey = tuple[tuple[int, ...], int, bool]
"""(thread, number among its calls, or among its questions, whether it is a question)."""


def _key(command: Generate | Score) -> CallKey:
    return command.path, command.number, isinstance(command, Score)


def _by_key(calls: Sequence[SaidCall]) -> dict[CallKey, SaidCall]:
    by_key: dict[CallKey, SaidCall] = {}
    counts: dict[tuple[tuple[int, ...], bool], int] = {}
    for call in calls:
        kind = call.path, call.scores is not None
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        by_key[call.path, number, kind[1]] = call
    return by_key


def _next(
    flying: dict[CallKey, Generate | Score], cancelled: set[int], said: dict[CallKey, SaidCall]
) -> tuple[CallKey, SaidCall]:
    """What comes back first of the calls in flight and the open questions, by the transcript's order; aborted
    calls come after their cancel.
    """
    for key, entry in said.items():
        command = flying.get(key)
        early = isinstance(command, Generate) and command.call not in cancelled
        if command is not None and (entry.stop is not StopReason.ABORT or not early):
            return key, entry
    raise TrajectoryError(f"transcript: has no entry for {_name(min(flying))}")


def _answer(entry: SaidCall, question: Score, key: CallKey) -> ScoreResult:
    assert entry.scores is not None
    if len(entry.scores) != len(question.texts) or not all(entry.scores):
        asked = f"{_name(key)} is about {len(question.texts)} texts"
        raise TrajectoryError(f"transcript: {asked}, and its scores are {entry.scores}")
    return ScoreResult(scores=entry.scores)


def _compare(entry: SaidCall, shown: str, key: CallKey) -> None:
    if entry.sees is not None and entry.sees.split() != shown.split():
        raise TrajectoryError(f"transcript: {_name(key)} sees {shown!r}, not {entry.sees!r}")


def _name(key: CallKey) -> str:
    path, number, is_question = key
    return f"{'question' if is_question else 'call'} {number} of thread {list(path)}"

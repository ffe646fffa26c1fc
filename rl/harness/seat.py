"""SEAT with a calibrated threshold, after the fact: recorded rounds are cut off where they would stop.

A round of `rounds` sees those before it and nothing of those behind, so an episode that ran to its end also
shows every earlier stop. The threshold is chosen on half of the problems and applied to the other half.
"""

import math
from collections.abc import Mapping, Sequence

from data.episodes.topology import token_clock
from data.episodes.trajectory import Episode, ThreadOutcome
from data.tasks.problem import Problem
from data.text.codec import Codec
from rewards.verifiers.verdict import Verdict
from rl.evaluation.eflops import ModelShape
from rl.evaluation.strategies.entropy_threshold import Round, calibrate, stopped_at
from rl.evaluation.strategies.points import Point, Trial, point
from rl.evaluation.strategies.sample import Sample, cost_of
from rl.harness.grading import Grader
from rollout.protocols.rounds import Rounds
from rollout.protocols.shared.voting import Answer, semantic_entropy, vote

Recorded = tuple[Sample, Sequence[Round]]
"""An episode that ran all its rounds, and what each round came to."""


async def rounds_of(
    protocol: Rounds, problem: Problem, episode: Episode, codec: Codec, grader: Grader
) -> list[Round]:
    """What each round of a recorded episode came to; the majority's answer of each is graded."""
    found = []
    for answers, ids, end in votes_of(protocol, episode):
        winner = vote(answers)
        text = None if winner is None else "".join(codec.pieces(ids[winner] or ())).strip()
        judged = await grader.judge(problem, text)
        entropy = semantic_entropy(answers) if len(answers) > 1 and winner is not None else math.inf
        found.append(Round(entropy=entropy, correct=judged.verdict is Verdict.CORRECT, end=end))
    return found


def votes_of(
    protocol: Rounds, episode: Episode
) -> list[tuple[list[Answer | None], list[tuple[int, ...] | None], float]]:
    """For each round: its drafts' answers as votes compare them, the same as ids, and the tick of its end."""
    clock = token_clock(episode)
    found = []
    begin = 0
    for width in protocol.widths:
        drafts = [
            thread for thread in episode.threads if thread.parent == 0 and begin <= thread.key < begin + width
        ]
        begin += width
        ids: list[tuple[int, ...] | None] = []
        end = 0
        for draft in drafts:
            calls = [call for call in episode.calls if call.thread == draft.index]
            end = max([end, *(clock[call.index][1] for call in calls)])
            ended = bool(calls) and draft.outcome is ThreadOutcome.RETURNED
            value = protocol.answer_of(calls[-1]) if ended else None
            ids.append(None if value is None else episode.resolve(value))
        if drafts:
            found.append(([protocol.vote_of(each) for each in ids], ids, float(end)))
    return found


def calibrated(setting: str, problems: Mapping[str, Sequence[Recorded]], shape: ModelShape | None) -> Point:
    """The point of rounds that stop at a threshold; problems take turns in two halves."""
    ordered = [problems[problem] for problem in sorted(problems)]
    trials: dict[int, list[Trial]] = {}
    for half in (0, 1):
        chosen = [rounds for number in range(1 - half, len(ordered), 2) for _, rounds in ordered[number]]
        threshold = calibrate(chosen)
        for number in range(half, len(ordered), 2):
            trials[number] = []
            for sample, rounds in ordered[number]:
                stop = rounds[stopped_at(rounds, -math.inf if threshold is None else threshold)]
                trials[number].append((stop.correct, cost_of([sample], shape, [stop.end])))
    return point("SEAT", setting, [trials[number] for number in range(len(ordered))])

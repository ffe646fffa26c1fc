"""Groups of random episodes that a learner can train on, and what a plain forward pass says of them."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from data.episodes.trajectory import (
    Call,
    Edge,
    EdgeKind,
    Episode,
    Forced,
    Ref,
    StopReason,
    Thread,
    ThreadOutcome,
    VersionSpan,
)
from rewards.score import Score
from rl.learner.learner import Learner
from rl.scored_group import ScoredGroup

PAD, VOCABULARY = 0, 100


def make_call(index: int, thread: int, context: tuple[Any, ...], rng: random.Random, **given: Any) -> Call:
    """Random output; its log-probabilities are put in by `behave`."""
    output = tuple(rng.randrange(2, VOCABULARY) for _ in range(rng.randint(2, 9)))
    return Call(
        index=index,
        thread=thread,
        role="thread",
        context=context,
        output=output,
        logprobs=(0.0,) * len(output),
        versions=(VersionSpan(version=0, start=0, stop=len(output)),),
        stop=StopReason.STOP,
        after=given.get("after", ()),
        num_trained=given.get("trained", len(output)),
    )


def make_episode(name: str, rng: random.Random, *, calls: int) -> Episode:
    """A root call and `calls - 1` children, which quote it; the last call trains all but its last token."""
    prompt = Forced(ids=tuple(rng.randrange(2, VOCABULARY) for _ in range(5)))
    made = [make_call(0, 0, (prompt,), rng)]
    fork = (Edge(kind=EdgeKind.FORK, call=0),)
    for index in range(1, calls):
        context = (Forced(ids=(7,)), Ref(call=0, start=0, stop=2), Forced(ids=(8,)))
        trained = {"trained": 1} if index == calls - 1 else {}
        made.append(make_call(index, index, context, rng, after=fork, **trained))
    threads = [
        Thread(
            index=index,
            parent=0 if index else None,
            key=max(0, index - 1),
            opened_by=0 if index else None,
            depth=min(index, 1),
            outcome=ThreadOutcome.RETURNED,
        )
        for index in range(calls)
    ]
    return Episode(
        id=name, problem_id="p", protocol="test", calls=tuple(made), threads=tuple(threads), answer=None
    )


def row_logprobs(model: Any, context: Sequence[int], output: Sequence[int], temperature: float) -> Any:
    """[T] by a plain forward of this one row."""
    logits = model(torch.tensor([[*context, *output]])).logits[0, len(context) - 1 : -1] / temperature
    return logits.log_softmax(-1)[torch.arange(len(output)), torch.tensor(output)]


@torch.no_grad()
def behave(model: Any, episode: Episode, rng: random.Random, temperature: float) -> Episode:
    """The episode as sampled by slightly other weights: ratios within and beyond the clip range."""
    calls = []
    for call in episode.calls:
        values = row_logprobs(model, episode.context_ids(call), call.output, temperature).tolist()
        calls.append(replace(call, logprobs=tuple(value + rng.gauss(0, 0.2) for value in values)))
    return replace(episode, calls=tuple(calls))


def make_groups(
    model_dir: Path,
    rewards: Sequence[Sequence[float | None]],
    *,
    seed: int = 0,
    calls: int = 3,
    temperature: float = 1.0,
) -> list[ScoredGroup]:
    """A group for each row of rewards, an episode for each reward."""
    rng = random.Random(seed)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    groups = []
    for index, values in enumerate(rewards):
        episodes = [make_episode(f"{index}/{i}", rng, calls=1 + (i % calls)) for i in range(len(values))]
        groups.append(
            ScoredGroup(
                index=index,
                problem_id="p",
                episodes=tuple(behave(model, episode, rng, temperature) for episode in episodes),
                scores=tuple(
                    Score(value=value, correct=None if value is None else value >= 0.5) for value in values
                ),
            )
        )
    return groups


REWARDS = [[1.0, 0.0, -0.5], [0.0, 0.0, 1.0], [1.0, None, 0.0], [0.5, 0.5, 0.5]]
"""Graded, and not; the last group has no signal."""


def graded_groups(model_dir: Path, *, seed: int) -> list[ScoredGroup]:
    """Four groups of four, all with signal."""
    rng = random.Random(seed)
    rewards = [[1.0, 0.0, rng.random(), rng.random()] for _ in range(4)]
    return make_groups(model_dir, rewards, seed=seed)


def save(learner: Learner, directory: Path) -> None:
    """The files of a checkpoint, written at once."""
    snapshot = learner.snapshot()
    if snapshot is not None:
        snapshot.write(directory)

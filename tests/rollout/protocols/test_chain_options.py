"""Every option of the protocols of chains, rounds and outlines: any output ends, demonstrations are right."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_lab import EOS, IDS, build, drive

from data.episodes.topology import critical_tokens, total_tokens
from data.episodes.trajectory import Ref
from data.episodes.wire import decode_episode, encode_episode
from data.tasks.base import Task
from data.tasks.countdown import Countdown
from data.tasks.parts import Parts, PartsParams
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from rollout.commands import Generate
from rollout.demonstrate import demonstrate
from rollout.protocols import PROTOCOLS, build_protocol, default_params, vocabulary
from rollout.transcript import dump_transcript, load_transcript, read_transcript, transcript_of

OPTIONS: list[dict[str, Any]] = [
    {"name": "self_consistency", "probe_tokens": 7},
    {"name": "self_consistency", "probe_tokens": 9, "stable": 2, "patience": 2, "warm_up": 1},
    {"name": "self_consistency", "probe_tokens": 9, "stable": 2, "patience": 2, "probe": "forced"},
    {"name": "self_consistency", "stop_early": True},
    {"name": "self_consistency", "vote": "confidence", "confidence": "answer", "on_failure": "retry"},
    {"name": "best_of_n", "scorer": "judge"},
    {"name": "best_of_n", "scorer": "judge", "judge": "each"},
    {"name": "best_of_n", "scorer": "judge", "judge_sees": "chain", "wait": "success", "wait_for": 2},
    {"name": "first_finish", "wait": "first", "wait_for": 2},
    {"name": "budget_forcing", "chains": 3, "chain_tokens": 900, "extend": 2, "wait_text": "<try>"},
    {"name": "budget_forcing", "chains": 3, "chain_tokens": 0, "vote": "confidence", "confidence": "answer"},
    {"name": "rounds", "widths": (3, 2), "compaction": "distil"},
    {"name": "rounds", "widths": (1, 1, 1), "compaction": "last_tokens", "kappa": 20},
    {"name": "rounds", "widths": (3, 2), "compaction": "top", "kappa": 20, "trained": "synthesis"},
    {"name": "rounds", "widths": (3, 3, 3), "final": "vote", "secretary": True},
    {"name": "rounds", "widths": (3, 3), "stop_entropy": 0.5, "wait": "first", "wait_for": 2},
    {"name": "outline_guided", "join": "aggregate", "wait": "success"},
    {"name": "forking_tokens", "mode": "sampled", "chains": 3, "trained": "first"},
]


def label(options: dict[str, Any]) -> str:
    return " ".join(str(value) for value in options.values())


@pytest.mark.parametrize("options", OPTIONS, ids=label)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    bounds=st.fixed_dictionaries(
        {
            "width": st.integers(1, 6),
            "depth": st.integers(0, 2),
            "live_calls": st.sampled_from([1, 2, 64]),
            "total_tokens": st.integers(1, 600),
            "critical_tokens": st.integers(1, 300),
        }
    ),
    max_length=st.integers(1, 300),
    failures=st.sampled_from([0.0, 0.2]),
)
def test_any_output_ends_within_its_bounds(
    options: dict[str, Any], seed: int, bounds: dict[str, Any], max_length: int, failures: float
) -> None:
    rng = random.Random(seed)
    protocol = build(**{**options, "budgets": bounds})
    tags = [IDS[tag] for tag in protocol.tags_of(protocol.params)]

    def say(generate: Generate) -> tuple[int, ...]:
        assert len(generate.prompt) + generate.max_tokens <= max_length
        kinds = rng.choices(("tag", "end", "number"), (3, 1, 4), k=rng.choice([0, 1, 4, 30]))
        return tuple(
            rng.choice(tags) if kind == "tag" else EOS if kind == "end" else rng.randint(1, 4)
            for kind in kinds
        )

    episode = drive(
        protocol, say, pick=rng.randrange, max_length=max_length, fail=lambda _: rng.random() < failures
    )
    assert total_tokens(episode) <= bounds["total_tokens"]
    assert critical_tokens(episode) <= bounds["critical_tokens"]
    assert decode_episode(encode_episode(episode)) == episode
    for call in episode.calls:
        # Whoever is referred to comes before: the longest path cannot leave it out.
        needed = {span.call for span in call.context if isinstance(span, Ref)}
        assert needed <= before(episode.calls, call.index)


def before(calls: Any, index: int) -> set[int]:
    found: set[int] = set()
    for edge in calls[index].after:
        found |= {edge.call} | before(calls, edge.call)
    return found


TASKS: list[Task] = [Countdown(), Parts(PartsParams(dependencies=True))]


@pytest.fixture(scope="module")
def codec() -> Codec:
    spoken = [word for name in PROTOCOLS for words in vocabulary(default_params(name)) for word in words]
    words = [*spoken, *(word for task in TASKS for word in task.words())]
    return Codec(build_tokenizer(list(dict.fromkeys(words)), numbers=99, digits=False))


@pytest.mark.parametrize("options", OPTIONS, ids=label)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_demonstrations_are_right_and_read_back_from_their_transcript(
    task: Task, options: dict[str, Any], codec: Codec
) -> None:
    params = PROTOCOLS[options["name"]].params_class.model_validate(options)
    protocol = build_protocol(params, codec)  # type: ignore[arg-type]
    solved = 0
    for number, problem in enumerate(task.problems("train", 12, 0)):
        tree = task.search(problem, random.Random(number))
        prompt = task.prompt(problem)
        made = demonstrate(protocol, prompt, tree, id="0", problem_id=problem.id, max_length=4096)
        if made is None:
            continue
        answer = made.answer_ids()
        assert (answer is None) == (tree.solution is None) and not made.violations
        if answer is not None:
            solved += 1
            assert task.check(problem, codec.decode(answer))
        again = load_transcript(dump_transcript(transcript_of(made, prompt.text, codec)))
        read = read_transcript(again, protocol, codec)
        assert [(c.context, c.output, c.after, c.stop) for c in read.calls] == [
            (c.context, c.output, c.after, c.stop) for c in made.calls
        ]
    assert solved >= 2

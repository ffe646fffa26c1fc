"""Recorded episodes as training material: which are chosen, what of them carries loss, and the curriculum of
rejection sampling, all but the training itself.
"""

import asyncio
import gzip
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.episodes.topology import critical_tokens
from data.episodes.trajectory import Episode, StopReason, ThreadOutcome
from data.episodes.wire import write_episodes
from data.errors import ConfigError
from data.forests.forest import build_forest
from data.tasks.parts import Parts, PartsParams
from data.tasks.problem import Problem
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from rewards.verifiers.verdict import Judge
from rl.config.stages import RecordedSource
from rl.imitation.demonstrations import DemonstrationSource
from rl.imitation.recorded_episodes import (
    RecordedEpisodes,
    matching_files,
    read_records,
    record_files,
    select,
)
from rl.storage.run_directory import RunDirectory
from rollout.demonstrate import demonstrate
from rollout.engines.scripted import ScriptedEngine
from rollout.protocols import PROTOCOLS, ThinkingProtocol, build_protocol, default_params, vocabulary
from rollout.runner import EpisodeSpec, run_episode

TERSE, FULL = Parts(PartsParams(skip=1.0)), Parts(PartsParams(skip=0.0))
ROW = Problem("p", "parts", {"parts": ["3 * 4 - 5", "2 + 9"]})  # 7 and 11: 18
RULES = RecordedSource(kind="recorded", stages=("rl",))
TAGS, WORDS = vocabulary(default_params("spawn_join"))
CODEC = Codec(build_tokenizer([*TAGS, *WORDS, *FULL.words()], numbers=60, digits=False))
SPAWN_JOIN = build_protocol(default_params("spawn_join"), CODEC)
Change = Callable[[str, str], str]
"""(what a call sees, what the demonstration says) -> what this model says."""


def sampled(
    change: Change = lambda sees, says: says,
    *,
    problem: Problem = ROW,
    task: Parts = FULL,
    sample: int = 0,
    protocol: ThinkingProtocol = SPAWN_JOIN,
    codec: Codec = CODEC,
) -> Episode:
    """An episode of a perfect imitator, but for what `change` makes of its words."""
    prompt = task.prompt(problem)
    tree = task.search(problem, random.Random(0))
    demo = demonstrate(protocol, prompt, tree, id="demo", problem_id=problem.id, max_length=1024)
    assert demo is not None
    calls = [call for call in demo.calls if call.output]
    said = {codec.decode(demo.context_ids(call)): codec.decode(call.output) for call in calls}
    last = codec.decode(calls[-1].output)

    def script(context: tuple[int, ...], seed: int) -> Sequence[int]:
        sees = codec.decode(context)
        # A root that is told something else than in the demonstration still says what it says there.
        return codec.encode(change(sees, said.get(sees, last)))

    work = EpisodeSpec(id=f"0/{sample}", problem_id=problem.id, prompt=prompt, temperature=1.0, seed="")
    return asyncio.run(run_episode(ScriptedEngine(script), protocol, work))


def wrong(sees: str, says: str) -> str:
    return says.replace("<answer> 18", "<answer> 17")


def malformed(sees: str, says: str) -> str:
    return says.replace("<answer> 18", "18")


def endless(sees: str, says: str) -> str:
    return " ".join(["9"] * 100) if sees.startswith("<child> A") else says


def chosen(
    episodes: Iterable[Episode],
    rules: RecordedSource = RULES,
    problems: Sequence[Problem] = (ROW,),
    most: int | None = None,
    seed: int = 0,
) -> tuple[list[Episode], dict[str, int]]:
    found, tally = select(
        [(Path("r.gz"), episode) for episode in episodes],
        rules,
        task=FULL,
        protocol=SPAWN_JOIN,
        problems={problem.id: problem for problem in problems},
        judge=Judge(FULL, CODEC),
        most=most,
        seed=seed,
    )
    counts = {name: getattr(tally, name) for name in type(tally).__slots__}
    return found, {name: count for name, count in counts.items() if count}


def rules(**changes: Any) -> RecordedSource:
    return RULES.model_copy(update=changes)


def test_the_filters() -> None:
    right, bad, broken = sampled(), sampled(wrong), sampled(malformed)
    assert broken.violations and not bad.violations and not right.violations
    assert chosen([right, bad, broken]) == ([right], {"read": 3, "malformed": 1, "wrong": 1, "kept": 1})
    found, tally = chosen([right, bad, broken], rules(correct=False))
    assert {CODEC.decode(e.answer_ids() or ()) for e in found} == {"18", "17"}
    assert tally == {"read": 3, "malformed": 1, "kept": 2}
    # Without an answer it is not right, whatever else may be.
    assert chosen([right, broken], rules(well_formed=False))[1] == {"read": 2, "wrong": 1, "kept": 1}
    assert len(chosen([right, bad, broken], rules(correct=False, well_formed=False))[0]) == 3


def test_an_answer_that_is_no_text_is_wrong() -> None:
    episode = sampled()
    last = episode.calls[-1]
    beyond = replace(last, output=(*last.output[:-2], CODEC.size + 7, last.output[-1]))
    changed = replace(episode, calls=(*episode.calls[:-1], beyond))
    assert chosen([changed, episode])[1] == {"read": 2, "wrong": 1, "kept": 1}


def test_held_out_and_unknown_problems_are_never_chosen() -> None:
    other = replace(ROW, id="elsewhere")
    found, tally = chosen([sampled(), sampled(problem=other)])
    assert [episode.problem_id for episode in found] == ["p"]
    assert tally == {"read": 2, "unknown": 1, "kept": 1}


def test_copies_count_once() -> None:
    assert chosen([sampled(sample=0), sampled(sample=1)])[1] == {"read": 2, "copies": 1, "kept": 1}
    assert chosen([sampled(), sampled(task=TERSE)])[1] == {"read": 2, "kept": 2}


def variants() -> list[Episode]:
    """Four right episodes; the critical path is the longest of two children, and the root."""
    longer = [
        sampled(lambda sees, says, n=n: says.replace("<found>", "= 7 " * n + "<found>"), sample=n)
        for n in (3, 1, 0, 2)
    ]
    lengths = [critical_tokens(episode) for episode in longer]
    assert lengths == [lengths[2] + 6, lengths[2] + 2, lengths[2], lengths[2] + 4]
    return longer


def test_the_shortest_critical_paths() -> None:
    episodes = variants()
    found, tally = chosen(episodes, rules(best="shortest", max_per_problem=2))
    assert {episode.id for episode in found} == {"0/1", "0/0"}
    assert tally == {"read": 4, "surplus": 2, "kept": 2}
    # Of equally long ones the first; and whatever the order they come in.
    assert {e.id for e in chosen(reversed(episodes), rules(best="shortest", max_per_problem=2))[0]} == {
        "0/1", "0/0",
    }  # fmt: skip


def test_any_of_them_is_a_fair_draw_that_the_seed_decides() -> None:
    episodes = variants()
    draws = [chosen(episodes, rules(max_per_problem=1), seed=seed)[0][0].id for seed in range(400)]
    assert all(70 < draws.count(f"0/{n}") < 130 for n in range(4))
    again = [chosen(episodes, rules(max_per_problem=1), seed=seed)[0][0].id for seed in range(400)]
    assert draws == again


def test_at_most_so_many_in_all() -> None:
    problems = FULL.problems("train", 6, 0)
    episodes = [sampled(problem=problem) for problem in problems]
    found, tally = chosen(episodes, problems=problems, most=4)
    assert len(found) == 4 and tally == {"read": 6, "surplus": 2, "kept": 4}
    orders = {tuple(e.problem_id for e in chosen(episodes, problems=problems, seed=s)[0]) for s in range(5)}
    assert len(orders) > 1  # shuffled
    assert {len(order) for order in orders} == {6}


def test_nothing_left_is_an_error_that_says_why() -> None:
    with pytest.raises(ConfigError, match=r"0 of 2 recorded episodes are imitated .1 malformed, 1 wrong."):
        chosen([sampled(wrong), sampled(malformed)])


def test_a_record_of_another_tokenizer_or_format_is_refused() -> None:
    message = r"r.gz: episode 0/0 does not begin as one on problem 'p' would here"
    params = default_params("spawn_join")
    for words in ([*FULL.words(), *TAGS, *WORDS], [*reversed(TAGS), *WORDS, *FULL.words()]):
        other = Codec(build_tokenizer(words, numbers=60, digits=False))
        with pytest.raises(ConfigError, match=message):
            chosen([sampled(codec=other, protocol=build_protocol(params, other))])
    conditioned = build_protocol(params.model_copy(update={"condition": "tokens"}), CODEC)
    with pytest.raises(ConfigError, match=message):
        chosen([sampled(protocol=conditioned)])


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_every_protocol_s_own_episodes_begin_as_they_would(name: str) -> None:
    params = default_params(name)
    tags, words = vocabulary(params)
    codec = Codec(build_tokenizer([*tags, *words, *FULL.words()], numbers=60, digits=False))
    protocol = build_protocol(params, codec)
    episode = sampled(protocol=protocol, codec=codec)
    found, _ = select(
        [(Path("r.gz"), episode)],
        rules(correct=False, well_formed=False),
        task=FULL,
        protocol=protocol,
        problems={"p": ROW},
        judge=Judge(FULL, codec),
        most=None,
        seed=0,
    )
    assert found == [episode]


def material(tmp_path: Path, episodes: Sequence[Episode], weight: float = 1.0) -> RecordedEpisodes:
    write_episodes(tmp_path / "chosen.gz", episodes)
    return RecordedEpisodes(
        task=FULL, protocol=SPAWN_JOIN, codec=CODEC, seed=0, pivot_weight=weight, path=tmp_path / "chosen.gz"
    )


def test_sampled_words_carry_loss_and_forced_ones_do_not(tmp_path: Path) -> None:
    episode = sampled()
    rows = material(tmp_path, [episode], weight=3.0).rows(episode)
    assert [CODEC.decode(row.ids[: row.first]) for row in rows] == [
        "<parent> A = 3 * 4 - 5 B = 2 + 9 <think>",
        "<child> A = 3 * 4 - 5 <think>",
        "<child> B = 2 + 9 <think>",
        "<parent> A = 3 * 4 - 5 B = 2 + 9 <think> <results> <found> A = 7 <found> B = 11 <end>",
    ]
    # "3 * 4 = 12 - 5 = 7 <found> A = 7 <eos>": the result before the ending, and all from it on.
    assert CODEC.decode(rows[1].ids[rows[1].first :]) == "3 * 4 = 12 - 5 = 7 <found> A = 7 <eos>"
    assert rows[1].weights == (1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3)
    assert all(len(row.ids) == row.first + len(row.weights) for row in rows)


def test_what_the_protocol_does_not_train_carries_no_loss(tmp_path: Path) -> None:
    episode = sampled()
    calls = (
        replace(episode.calls[0], num_trained=0),
        replace(episode.calls[1], num_trained=3),
        *episode.calls[2:],
    )
    partly = replace(episode, calls=calls)
    source = material(tmp_path, [partly])
    rows = source.rows(partly)
    assert [CODEC.decode(row.ids[:2]) for row in rows] == ["<child> A", "<child> B", "<parent> A"]
    assert rows[0].weights == (1, 1, 1, *(0,) * 11)
    demonstrated = DemonstrationSource(
        task=FULL, protocol=SPAWN_JOIN, codec=CODEC, seed=0, pivot_weight=1.0,
        problems=[ROW], max_length=100, count=1,
    )  # fmt: skip
    assert demonstrated.rows(partly) == rows


def test_threads_that_were_cut_off_are_not_imitated(tmp_path: Path) -> None:
    episode = sampled(endless)
    assert episode.threads[1].outcome is ThreadOutcome.TRUNCATED
    assert episode.calls[1].stop is StopReason.LENGTH
    assert chosen([episode])[1] == {"read": 1, "kept": 1}  # the root said the right sum all the same
    rows = material(tmp_path, [episode]).rows(episode)
    assert [CODEC.decode(row.ids[:2]) for row in rows] == ["<parent> A", "<child> B", "<parent> A"]


def test_forests_hold_every_row_that_fits(tmp_path: Path) -> None:
    problems = FULL.problems("train", 40, 0)
    episodes = [sampled(problem=problem) for problem in problems]
    source = material(tmp_path, episodes)
    forests = list(source.forests(64))
    assert forests == list(source.forests(64))
    assert all(len(build_forest(rows)) <= 64 for rows in forests)
    every = [row for episode in episodes for row in source.rows(episode)]
    packed = sorted(row.ids for rows in forests for row in rows)
    assert packed == sorted(row.ids for row in every if len(row) <= 64)
    assert 0 < len(packed) < len(every)


def test_files_are_found_and_read(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    record = directory.stage("rl") / "record"
    record.mkdir()
    for step in (1, 0):
        write_episodes(record / f"step-{step:06d}.episodes.jsonl.gz", [sampled(sample=step)])
    write_episodes(directory.stage("sample") / "sft.sampled.episodes.jsonl.gz", [sampled(wrong)])
    for name in ("b", "a"):
        (tmp_path / "deep" / name).mkdir(parents=True)
        write_episodes(tmp_path / "deep" / name / "x.gz", [sampled(sample=7)])
    source = rules(stages=("rl", "sample"), files=(tmp_path / "**" / "x.gz",))
    files = record_files(source, directory)
    assert [path.relative_to(tmp_path).as_posix() for path in files] == [
        "run/stages/rl/record/step-000000.episodes.jsonl.gz",
        "run/stages/rl/record/step-000001.episodes.jsonl.gz",
        "run/stages/sample/sft.sampled.episodes.jsonl.gz",
        "deep/a/x.gz",
        "deep/b/x.gz",
    ]
    read = list(read_records(files, "spawn_join"))
    assert [episode.id for _, episode in read] == ["0/0", "0/1", "0/0", "0/7", "0/7"]
    with pytest.raises(ConfigError, match=r"step-000000.*under protocol 'spawn_join'.*teaches 'sequential'"):
        list(read_records(files, "sequential"))
    with pytest.raises(ConfigError, match=r"holds no recorded episodes\n  fix: finish stage 'empty'"):
        record_files(rules(stages=("empty",)), directory)
    with pytest.raises(ConfigError, match="no such episode record"):
        matching_files(tmp_path / "*.nothing")


@pytest.mark.parametrize("damage", ["cut", "text", "wire", "binary"])
def test_a_damaged_record_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "r.gz"
    write_episodes(path, [sampled()])
    whole = path.read_bytes()
    text = gzip.decompress(whole)
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "text": gzip.compress(text[:200] + b"\n"),
            "wire": gzip.compress(text.replace(b'"wire":', b'"wire":9')),
            "binary": b"what?",
        }[damage]
    )
    with pytest.raises(ConfigError, match=r"r\.gz: is not a whole episode record"):
        list(read_records([path], "spawn_join"))

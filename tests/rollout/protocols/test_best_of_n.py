"""best_of_n: scorers, the judge in its two forms, who is trained."""

import math

import pytest
from chain_lab import play
from protocol_lab import LetterEncoder, WordEncoder, build, drive, ids, scripted, text

from data.episodes.topology import critical_tokens, total_tokens, width
from data.episodes.trajectory import EdgeKind, Ref, ThreadOutcome, ViolationKind
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.prompt import Prompt
from rollout.demonstrate import demonstrate
from rollout.protocols.best_of_n import SCORERS, BestOfN, BestOfNParams
from rollout.protocols.shared.barrier import ThreadResult
from rollout.protocols.shared.framing_params import TagFramingConfig

NAME = "best_of_n"
SEEN = "<solo> 1 2 3 <think>"
LINES = {
    ((0,), 0): ("1 1 <answer> 5 <eos>", [-0.5]),
    ((1,), 0): ("<answer> 6 <eos>", [-0.9]),
    ((2,), 0): ("1 1 1 1 <answer> 7 8 <eos>", [-0.7]),
    ((3,), 0): ("<giveup> <eos>", [-0.1]),
}


@pytest.mark.parametrize(
    ("scorer", "answer"), [("confidence", (5,)), ("shortest", (6,)), ("longest", (7, 8))]
)
def test_the_best_of_those_that_answered(scorer: str, answer: tuple[int, ...]) -> None:
    episode = play(build(NAME, scorer=scorer), LINES)
    assert episode.answer_ids() == answer
    assert all(episode.context_ids(call) == ids(SEEN) for call in episode.calls)
    assert total_tokens(episode) == 5 + 3 + 8 + 2 and critical_tokens(episode) == 8
    assert width(episode) == 4 and len(episode.calls) == 4


def test_of_equals_the_earliest_and_of_none_no_answer() -> None:
    lines = {((key,), 0): (f"<answer> {key + 1} <eos>", [-0.5]) for key in range(4)}
    for scorer in SCORERS:
        assert play(build(NAME, scorer=scorer), lines).answer_ids() == (1,)
    nobody = {((key,), 0): ("<giveup> <eos>", [-0.5]) for key in range(4)}
    episode = play(build(NAME), nobody)
    assert episode.answer is None and episode.outcome is ThreadOutcome.RETURNED


def test_a_scorer_of_ones_own_sees_candidates_only_and_replaces_the_recipes() -> None:
    seen: list[int] = []

    def largest(result: ThreadResult) -> float:
        seen.append(result.key)
        return float(sum(result.ids or ()))

    params = BestOfNParams(name="best_of_n", scorer="judge", judge="each")
    episode = play(BestOfN(params, WordEncoder(), scorer=largest), LINES)
    assert episode.answer_ids() == (7, 8) and sorted(set(seen)) == [0, 1, 2]
    assert {call.role for call in episode.calls} == {"chain"}


COMPARED = {((key,), 0): line for key, line in enumerate(["1 <answer> 5 <eos>", "<giveup> <eos>"])}
COMPARED |= {((2,), 0): "2 <answer> 6 7 <eos>", ((), 0): "8 <choice> 2 <eos>"}


@pytest.mark.parametrize(
    ("judge_sees", "candidates"),
    [("answer", "1 : 5 <and> 2 : 6 7"), ("chain", "1 : 1 <answer> 5 <and> 2 : 2 <answer> 6 7")],
)
def test_a_comparing_judge_sees_the_candidates_numbered(judge_sees: str, candidates: str) -> None:
    episode = drive(build(NAME, chains=3, scorer="judge", judge_sees=judge_sees), scripted(COMPARED))
    judge = episode.calls[-1]
    assert text(episode.context_ids(judge)) == f"<judge> 1 2 3 <results> {candidates} <end> <think>"
    assert [(edge.kind, edge.call) for edge in judge.after] == [(EdgeKind.JOIN, call) for call in range(3)]
    assert judge.role == "judge" and judge.thread == 0
    assert episode.answer == (Ref(call=2, start=2, stop=4),)
    assert total_tokens(episode) == 4 + 2 + 5 + 4 and critical_tokens(episode) == 5 + 4


@pytest.mark.parametrize(
    ("verdict", "position"),
    [
        ("<choice> 3 <eos>", 0),
        ("8 <choice> <eos>", 1),
        ("<choice> 1 2 <eos>", 0),
        ("<choice> <good> <eos>", 0),
        ("8 8 <eos>", 2),
    ],
)
def test_a_choice_that_names_no_candidate_is_a_typed_violation(verdict: str, position: int) -> None:
    lines = {**COMPARED, ((), 0): verdict}
    episode = drive(build(NAME, chains=3, scorer="judge"), scripted(lines))
    assert episode.outcome is ThreadOutcome.MALFORMED and episode.answer is None
    [violation] = episode.violations
    assert (violation.kind, violation.call) == (ViolationKind.MALFORMED_ANSWER, 3)
    assert violation.position == position


def test_a_judge_that_is_cut_off_ends_the_episode_truncated() -> None:
    episode = drive(build(NAME, chains=3, scorer="judge", judge_tokens=1), scripted(COMPARED))
    assert episode.outcome is ThreadOutcome.TRUNCATED


def test_nothing_is_compared_with_one_candidate_or_none() -> None:
    lines = {((0,), 0): "<giveup> <eos>", ((1,), 0): "<answer> 5 <eos>"}
    episode = drive(build(NAME, chains=2, scorer="judge"), scripted(lines))
    assert episode.answer_ids() == (5,) and len(episode.calls) == 2
    nobody = drive(build(NAME, chains=1, scorer="judge"), scripted({((0,), 0): "<giveup> <eos>"}))
    assert nobody.answer is None and nobody.outcome is ThreadOutcome.RETURNED


def judged(*verdicts: tuple[str, float]) -> dict[tuple[tuple[int, ...], int], tuple[str, list[float]]]:
    lines = {}
    for key, (verdict, logprob) in enumerate(verdicts):
        lines[(key,), 0] = (f"<answer> {key + 1} <eos>", [-1.0])
        lines[(key,), 1] = (f"{verdict} <eos>", [logprob, 0.0])
    return lines


@pytest.mark.parametrize(
    ("verdicts", "answer"),
    [
        # Probability of being good: 0.6, 0.9.
        ([("<good>", math.log(0.6)), ("<good>", math.log(0.9))], 2),
        # 0.6, and 1 - 0.3 = 0.7.
        ([("<good>", math.log(0.6)), ("<bad>", math.log(0.3))], 2),
        # 1 - 0.9 = 0.1, and 0.2.
        ([("<bad>", math.log(0.9)), ("<good>", math.log(0.2))], 2),
        ([("<bad>", math.log(0.5)), ("<good>", math.log(0.5))], 1),
    ],
)
def test_a_judge_of_each_scores_by_the_probability_of_its_verdict(
    verdicts: list[tuple[str, float]], answer: int
) -> None:
    episode = play(build(NAME, chains=2, scorer="judge", judge="each"), judged(*verdicts))
    assert episode.answer_ids() == (answer,)
    assert [call.role for call in episode.calls] == ["chain", "judge", "chain", "judge"]
    assert text(episode.context_ids(episode.calls[1])) == "<judge> 1 2 3 <results> 1 : 1 <end> <think>"
    # Chains are judged beside each other: the longest path is one chain and its judge.
    assert total_tokens(episode) == 2 * (3 + 2) and critical_tokens(episode) == 5


def test_a_chain_without_a_verdict_is_no_candidate_and_one_without_an_answer_is_not_judged() -> None:
    lines = judged(("7", -0.1), ("<bad>", -0.1), ("<good>", -0.1))
    lines[(2,), 0] = ("<giveup> <eos>", [-1.0])
    episode = play(build(NAME, chains=3, scorer="judge", judge="each"), lines)
    assert [thread.outcome.value for thread in episode.threads[1:]] == ["malformed", "returned", "returned"]
    assert episode.answer_ids() == (2,)
    [violation] = episode.violations
    assert (violation.kind, violation.call, violation.position) == (ViolationKind.MALFORMED_RETURN, 1, 1)


@pytest.mark.parametrize(
    ("train", "trained"), [("all", {"chain", "judge"}), ("chains", {"chain"}), ("judge", {"judge"})]
)
def test_the_recipe_says_whose_tokens_carry_loss(train: str, trained: set[str]) -> None:
    for judge in ("compare", "each"):
        lines = {**judged(("<good>", -0.1), ("<good>", -0.2)), ((), 0): ("<choice> 1 <eos>", [-0.1])}
        episode = play(build(NAME, chains=2, scorer="judge", judge=judge, train=train), lines)
        assert {call.role for call in episode.calls if call.num_trained} == trained
        assert all(call.num_trained in (0, len(call.output)) for call in episode.calls)


def test_an_imitators_judge_names_the_shortest_chain() -> None:
    tree = SearchTree(
        children=(
            SearchNode(move="1", message="1", trace="2 3 4 5"),
            SearchNode(move="6", message="6", trace="7", solution="8"),
        ),
        solution="8",
    )
    protocol = build(NAME, chains=2, scorer="judge")
    episode = demonstrate(protocol, Prompt("1 2 3"), tree, id="0", problem_id="p", max_length=100)
    assert episode is not None and text(episode.calls[-1].output) == "<choice> 2 <eos>"
    protocol = build(NAME, chains=2, scorer="judge", judge="each")
    episode = demonstrate(protocol, Prompt("1 2 3"), tree, id="0", problem_id="p", max_length=100)
    assert episode is not None
    assert [text(call.output) for call in episode.calls if call.role == "judge"] == ["<good> <eos>"] * 2


def test_tags_and_numbers_may_be_ordinary_text() -> None:
    letters = LetterEncoder()
    params = BestOfNParams(name="best_of_n", chains=2, scorer="judge", framing=TagFramingConfig())
    said = {((0,), 0): "x<answer>5", ((1,), 0): "<answer> 6", ((), 0): "hm <choice> 2 "}
    episode = drive(
        BestOfN(params, letters), lambda g: (*letters.encode(said[g.path, g.number]), letters.eos)
    )
    seen = "".join(map(chr, episode.context_ids(episode.calls[-1])))
    assert seen == "<judge>\n1 2 3\n<results>\n1: 5\n<and>\n2:  6\n<end>\n<think>\n"
    assert episode.answer_ids() == letters.encode(" 6") and not episode.violations

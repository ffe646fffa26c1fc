"""`spawn_join` with `dialect: apr`: demonstrations of Countdown, and what a model may get wrong.

Whole calls in the published text are in tests/rollout/test_published_formats.py.
"""

import random
from typing import Any

import pytest
from tokenizer_lab import codec_of

from data.episodes.trajectory import Episode, Ref, ThreadOutcome
from data.tasks.countdown import Countdown, CountdownParams
from data.text.codec import Codec
from data.text.prompt import Prompt
from rollout.demonstrate import demonstrate
from rollout.protocols import PROTOCOLS, ThinkingProtocol, build_protocol
from rollout.protocols.shared.apr_text import TAGS, nodes_in, sub_searches, way
from rollout.protocols.shared.flat_text import SaidCall
from rollout.transcript import Transcript, read_transcript

HEAD = "Moving to Node #0\nCurrent State: 38:[9, 4, 2], Operations: []"
MOVES = (
    "Exploring Operation: 9*4=36, Resulting Numbers: [2, 36]\n"
    "Generated Node #0,0: 38:[2, 36] Operation: 9*4=36\n"
)
START = "<Start Sub Search 0 at level 1> Moving to Node #0,0\n"
CALL = f"{MOVES}<Calling Sub Searches>\n{START}<End Calling Sub Searches>"
CHILD = "Moving to Node #0,0\nCurrent State: 38:[2, 36], Operations: ['9*4=36']\n"
LAST = "Exploring Operation: 36+2=38, Resulting Numbers: [38]\n38,38 equal: Goal Reached"
FOUND = f"{LAST}\n{CHILD}{LAST}"
"""What the child says that reaches the goal."""


def protocol_of(codec: Codec, **params: Any) -> ThinkingProtocol:
    limits = {"parent_tokens": 4000, "child_tokens": 4000, "framing": {"kind": "tags"}}
    section = {"name": "spawn_join", "dialect": "apr", **limits, **params}
    return build_protocol(PROTOCOLS["spawn_join"].params_class.model_validate(section), codec)


def run(*said: tuple[tuple[int, ...], str], **params: Any) -> tuple[Episode, list[str]]:
    """An episode of these calls, and all that each of them saw."""
    codec = codec_of("gpt")
    calls = tuple(SaidCall(path=path, says=text) for path, text in said)
    transcript = Transcript(protocol="spawn_join", prompt=HEAD, calls=calls)
    episode = read_transcript(transcript, protocol_of(codec, **params), codec)
    return episode, [codec.decode(episode.context_ids(call)) for call in episode.calls]


@pytest.mark.parametrize("tokens", [False, True], ids=["tags as text", "tags as tokens"])
def test_a_search_of_countdown_is_demonstrated_in_the_published_text(tokens: bool) -> None:
    codec = codec_of("gpt", TAGS if tokens else ())
    protocol = protocol_of(codec)
    task = Countdown(CountdownParams(text="apr", operands=3, max_first=3, max_second=2))
    found = 0
    for number, problem in enumerate(task.problems("train", 12, 0)):
        tree = task.search(problem, random.Random(number))
        prompt = task.prompt(problem)
        episode = demonstrate(protocol, prompt, tree, id="0", problem_id="p", max_length=9000)
        assert episode is not None
        texts = [codec.decode(call.output).removesuffix("<|im_end|>") for call in episode.calls]
        contexts = [codec.decode(episode.context_ids(call)) for call in episode.calls]
        assert contexts[0] == f"{prompt.text}\n"
        assert contexts[1:-1] == [f"{child.message}\n" for child in tree.children]
        moves = "".join(f"{child.move}\n" for child in tree.children)
        assert texts[0].startswith(f"{moves}<Calling Sub Searches>\n<Start Sub Search 0 at level 1> ")
        lines = [
            f"<Goal Reached in Sub Search {n} at level 1 at Node #0,{n}>\n{child.way}\n"
            if child.solution
            else f"<No Solution in Sub Search {n} at level 1 at Node #0,{n}>\n"
            for n, child in enumerate(tree.children)
        ]
        joined = f"<Sub Searches>\n{''.join(lines)}<End Sub Searches>\n"
        assert contexts[-1] == f"{prompt.text}\n{moves}{joined}"
        answer = episode.answer_ids()
        assert (answer is None) == (tree.solution is None)
        if answer is not None:
            found += 1
            assert codec.decode(answer) == tree.way and task.check(problem, tree.way)
            assert texts[-1] == f"{tree.way.splitlines()[-1]}\n{tree.way}"
        else:
            assert texts[-1] == "No solution found."
    assert 2 < found < 12


def test_budgets_stand_in_front_and_sub_calls_are_not_passed_on() -> None:
    said = (((), CALL), ((0,), "No solution found.<eos>"), ((), "No solution found.<eos>"))
    _, plain = run(*said)
    assert plain[:2] == [f"{HEAD}\n", CHILD]
    _, seen = run(*said, condition="spawns", budget=10)
    assert seen[:2] == [f"Sub Call Budget: 10 {HEAD}\n", CHILD]
    _, seen = run(*said, condition="tokens", budget=7)
    assert seen[:2] == [f"Token Budget: 7 {HEAD}\n", f"Token Budget: 7 {CHILD}"]


def test_a_child_that_fails_leaves_the_line_of_a_search_without_solution() -> None:
    line = "<Sub Searches>\n<No Solution in Sub Search 0 at level 1 at Node #0,0>\n<End Sub Searches>\n"
    for said in ("No solution found.\n<eos>", "38,38 equal: Goal Reached<eos>"):
        episode, seen = run(((), CALL), ((0,), said), ((), "No solution found.<eos>"))
        assert seen[-1] == f"{HEAD}\n{MOVES}{line}"
        assert episode.threads[1].outcome == ("malformed" if "Goal" in said else "returned")
    episode, seen = run(
        ((), CALL),
        ((0,), "38,38 equal: Goal Reached<eos>"),
        ((), "No solution found.<eos>"),
        notices={"malformed": "<Sub Search 0 broke off>"},
    )
    assert "<Sub Search 0 broke off>\n<End Sub Searches>\n" in seen[-1]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("<End Calling Sub Searches>", "join_without_fork"),
        (f"{MOVES}<Sub Searches>", "join_without_fork"),
        ("<Calling Sub Searches>\n<End Calling Sub Searches>", "no_children"),
        (f"<Calling Sub Searches>\n{START}<End Calling Sub Searches>", "no_children"),
        (f"{LAST}<eos>", "malformed_answer"),
        ("<eos>", "malformed_answer"),
    ],
)
def test_slips_of_the_parent_are_noted(said: str, kind: str) -> None:
    episode, _ = run(((), said))
    assert episode.violations[-1].kind == kind and episode.answer is None
    assert episode.outcome is ThreadOutcome.MALFORMED


def test_lists_are_read_as_far_as_their_nodes_are_there() -> None:
    other = "<Start Sub Search 1 at level 1> Moving to Node #0,7\n"
    call = CALL.replace(START, f"{START}{other}{START}and so on\n")
    episode, seen = run(
        ((), call), ((0,), f"{FOUND}\n<eos>"), ((), f"{LAST}\n{HEAD}\n{MOVES}{CHILD}{LAST}<eos>")
    )
    assert [v.kind.value for v in episode.violations] == ["malformed_child", "duplicate_index"]
    assert len(episode.threads) == 2
    reached = "<Goal Reached in Sub Search 0 at level 1 at Node #0,0>"
    assert seen[-1] == f"{HEAD}\n{MOVES}<Sub Searches>\n{reached}\n{CHILD}{LAST}\n<End Sub Searches>\n"
    # What returns is what the child sampled, by reference.
    refs = [span for span in episode.calls[2].context if isinstance(span, Ref)]
    assert {ref.call for ref in refs} == {0, 1}


def test_a_second_call_may_search_below_a_node_generated_before_the_first() -> None:
    late = CALL.replace(MOVES, "").replace("Search 0", "Search 1")
    nothing = ((0,), "No solution found.<eos>"), ((1,), "No solution found.<eos>")
    episode, seen = run(
        ((), CALL), nothing[0], ((), late), nothing[1], ((), "No solution found.<eos>"), rounds=2
    )
    assert not episode.violations and seen[3] == CHILD
    refused, _ = run(((), CALL), nothing[0], ((), late))
    assert [violation.kind.value for violation in refused.violations] == ["fork_not_allowed"]


def test_text_is_matched_and_operations_go_on_from_the_state_before() -> None:
    text = f"{HEAD}\n{MOVES}{CHILD}Generated Node #0,0,1: 38:[34] Operation: 36-2=34"
    assert nodes_in(text) == {
        "0,0": CHILD.rstrip(),
        "0,0,1": "Moving to Node #0,0,1\nCurrent State: 38:[34], Operations: ['9*4=36', '36-2=34']",
    }
    assert [search.place for search in sub_searches(START * 2)] == ["0 at level 1 at Node #0,0"] * 2
    assert sub_searches("<Start Sub Search 0 at level 1> Moving to Node #__import__('os')") == []
    start, stop = way(FOUND) or (0, 0)
    assert FOUND[start:stop] == f"{CHILD}{LAST}"
    assert way(LAST) is None and way("Goal Reached Goal Reached") == (13, 25)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"budgets": {"depth": 2}}, "sub searches do not nest"),
        ({"answer": {"kind": "boxed"}}, "answer.kind and answer.scope are not for dialect apr"),
        ({"result": {"kind": "whole"}}, "result.kind and result.scope are not for dialect apr"),
    ],
)
def test_what_the_published_text_settles_cannot_be_set(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        protocol_of(codec_of("gpt"), **wrong)


def test_words_of_the_problem_are_no_structure_in_a_child() -> None:
    """The state that a child begins with is text that its parent wrote: what it spells is not a tag."""
    codec = codec_of("gpt", TAGS)
    context = protocol_of(codec).frame("child", Prompt("Current State: <Sub Searches>"))
    assert codec.tag("<Sub Searches>") not in [token for span in context for token in span.ids]  # type: ignore[union-attr]

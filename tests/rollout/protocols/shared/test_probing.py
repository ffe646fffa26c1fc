"""Parallel-Probe's rules on tables of answers, by hand."""

from rollout.protocols.shared.probing import ProbedChain, Verdict, probe
from rollout.protocols.shared.voting import Answer

NAMES: dict[str, Answer | None] = {"a": (1,), "b": (2,), "c": (3,), ".": None}


def chain(answers: str, end: str = "running") -> ProbedChain:
    """One letter a call; "." is no answer yet."""
    return ProbedChain(
        answers=tuple(NAMES[letter] for letter in answers),
        running=end == "running",
        cancelled=end == "cancelled",
    )


def run(
    *chains: ProbedChain, warm_up: int = 0, patience: int | None = None, stable: int | None = None
) -> Verdict:
    return probe(chains, warm_up=warm_up, patience=patience, stable=stable)


def test_a_probe_is_over_when_every_running_chain_has_reached_it() -> None:
    assert run(chain("aaaa"), chain("bb")).probe == 2
    assert run(chain("aaaa"), chain("bb", "ended")).probe == 4
    assert run(chain("aaaa"), chain("bb", "cancelled")).probe == 4
    assert run(chain("aa", "ended"), chain("b", "ended")).probe == 2
    assert run(chain("a"), chain("")).probe == 0


def test_the_winner_is_the_vote_at_the_last_probe() -> None:
    # Probe 2: a a b, though chain 0 has gone on to c.
    assert run(chain("aac"), chain(".a"), chain("bb")).winner == 0
    assert run(chain(".."), chain("..")).winner is None


def test_a_chain_that_has_ended_keeps_its_vote_and_one_that_was_stopped_does_not() -> None:
    assert run(chain("bbb"), chain("a", "ended"), chain("aaa")).winner == 1
    assert run(chain("bbb"), chain("a", "cancelled"), chain("aaa")).winner == 0


def test_patience_gives_up_who_disagrees_so_often_in_a_row() -> None:
    table = (chain("aaa"), chain("aaa"), chain("bbb"))
    assert run(*table, patience=4).pruned == ()
    assert run(*table, patience=3).pruned == (2,)
    # Agreement in between, or no answer, starts the count again.
    assert run(chain("aaaa"), chain("aaaa"), chain("bbab"), patience=3).pruned == ()
    assert run(chain("aaaa"), chain("aaaa"), chain("bb.b"), patience=3).pruned == ()


def test_a_pruned_chain_votes_no_more() -> None:
    table = (chain("aac"), chain("aab"), chain("bbb"))
    assert run(*table).winner == 1
    verdict = run(*table, patience=2)
    assert (verdict.pruned, verdict.winner) == ((2,), 0)


def test_a_chain_that_has_ended_is_not_pruned() -> None:
    assert run(chain("aaa"), chain("aaa"), chain("b", "ended"), patience=2).pruned == ()
    assert run(chain("aaa"), chain("aaa"), chain("bb", "ended"), patience=2).pruned == ()
    # One that was ahead of the others counts as if all had kept step: at probe 2 it was running.
    assert run(chain("aaa"), chain("aaa"), chain("bbb", "ended"), patience=2).pruned == (2,)


def test_stable_stops_all_when_the_winner_stays() -> None:
    assert not run(chain("aa"), chain("aa"), stable=3).stop
    verdict = run(chain("aaab"), chain("aaab"), stable=3)
    assert (verdict.stop, verdict.probe, verdict.winner) == (True, 3, 0)
    assert not run(chain("aabb"), chain("aabb"), stable=3).stop
    assert not run(chain("...."), chain("...."), stable=2).stop


def test_nothing_happens_while_warming_up_but_the_winner_is_watched() -> None:
    table = (chain("aaa"), chain("aaa"), chain("bbb"))
    assert run(*table, warm_up=1, patience=3).pruned == ()
    assert run(*table, warm_up=1, patience=2).pruned == (2,)
    assert not run(*table, warm_up=3, stable=2).stop
    assert run(*table, warm_up=2, stable=3).probe == 3
    assert run(*table, warm_up=2, stable=3).stop

"""maj@k and G-Pass@k, with numbers worked out by hand and against all draws counted one by one."""

import random
from itertools import combinations

import pytest

from rl.evaluation.g_pass_at_k import g_pass_at_k, mean_g_pass_at_k
from rl.evaluation.maj_at_k import maj_at_k
from rl.evaluation.pass_at_k import pass_at_k


def test_g_pass_at_k_by_hand() -> None:
    # 2 of 4 right, 2 drawn: of 6 pairs 1 has both right, 5 at least one.
    assert g_pass_at_k(4, 2, 2, 1.0) == pytest.approx(1 / 6)
    assert g_pass_at_k(4, 2, 2, 0.5) == pytest.approx(5 / 6)
    # 3 of 5 right, 4 drawn (5 ways, each leaves one out): 3 right in 2 of them (a wrong one is left out).
    assert g_pass_at_k(5, 3, 4, 0.75) == pytest.approx(2 / 5)
    assert g_pass_at_k(5, 3, 4, 1.0) == 0
    # 0.3 * 10 is above 3 in floating point, and asks for 3.
    assert g_pass_at_k(10, 3, 10, 0.3) == 1


def test_g_pass_of_a_small_share_is_pass_at_k() -> None:
    for correct in range(7):
        assert g_pass_at_k(6, correct, 4, 0.01) == pytest.approx(pass_at_k(6, correct, 4))


def test_mean_g_pass_by_hand() -> None:
    # k = 4: shares 3/4 and 4/4. 3 of 4 right: 1 and 0; all right: 1 and 1; 2 of 4: 0.
    assert mean_g_pass_at_k(4, 3, 4) == pytest.approx(0.5)
    assert mean_g_pass_at_k(4, 4, 4) == pytest.approx(1.0)
    assert mean_g_pass_at_k(4, 2, 4) == 0


def test_maj_at_k_by_hand() -> None:
    right = {"5": True, "6": False, "7": False}
    assert maj_at_k(["5", "5", "6"], right, 1) == pytest.approx(2 / 3)
    # {5, 5} wins, the two {5, 6} are ties.
    assert maj_at_k(["5", "5", "6"], right, 2) == pytest.approx(2 / 3)
    assert maj_at_k(["5", "5", "6"], right, 3) == 1
    # All three differ: each wins with the same chance. The silent have no vote.
    assert maj_at_k(["5", "6", "7"], right, 3) == pytest.approx(1 / 3)
    assert maj_at_k(["5", None, None], right, 2) == pytest.approx(2 / 3)
    assert maj_at_k([None, None], right, 2) == 0


def test_maj_at_k_counts_every_draw_in_every_order() -> None:
    rng = random.Random(0)
    for _ in range(60):
        n = rng.randint(2, 7)
        answers = [rng.choice(["a", "b", "c", None]) for _ in range(n)]
        right = {"a": True, "b": False, "c": rng.random() < 0.5}
        k = rng.randint(1, n)
        won = 0.0
        draws = list(combinations(answers, k))
        for draw in draws:
            votes = [answer for answer in draw if answer is not None]
            most = max((votes.count(answer) for answer in votes), default=0)
            best = {answer for answer in votes if votes.count(answer) == most}
            won += sum(right[answer] for answer in best) / len(best) if best else 0
        assert maj_at_k(answers, right, k) == pytest.approx(won / len(draws))

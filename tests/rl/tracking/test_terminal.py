import io

from rich.console import Console

from rl.tracking.terminal import LiveSummary, clock


class FakeClock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0, 75, 3675)] == ["0:00", "1:15", "1:01:15"]


def test_plain_output_is_one_line_a_step() -> None:
    out, now = io.StringIO(), FakeClock()
    with LiveSummary("rl", total=10, first=2, console=Console(file=out, width=40), now=now) as live:
        assert not live.interactive
        now.time += 30
        live.update(3, {"reward/mean": 0.25, "time/tokens_per_s": 5123.4})
        now.time += 30
        live.update(4, {"reward/mean": 0.5, "time/learner_s": 1.25, "something/else": 1.0})
    assert out.getvalue().splitlines() == [
        # One new step in half a minute; seven to go.
        "rl 3/10, reward 0.250, tokens/s 5,123, 2.0 steps/min, 0:30 elapsed, 3:30 left",
        # Two in a minute, six to go. Tokens/s keeps its last value.
        "rl 4/10, reward 0.500, tokens/s 5,123, learner (s) 1.2, 2.0 steps/min, 1:00 elapsed, 3:00 left",
    ]


def test_screen_shows_the_state_and_leaves_a_line() -> None:
    out, now = io.StringIO(), FakeClock()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    with LiveSummary("rl", total=10, console=console, now=now) as live:
        assert live.interactive
        now.time += 60
        live.update(5, {"reward/mean": 0.25, "staleness/max": 2.0})
        drawn = out.getvalue()
        assert "reward" in drawn and "0.250" in drawn
        assert "staleness" in drawn
        assert "5.0 steps/min, 1:00 elapsed, 1:00 left" in drawn
    assert out.getvalue().rstrip().endswith("1:00 elapsed, 1:00 left")


def test_unknown_length_and_no_step_yet() -> None:
    live = LiveSummary("eval", console=Console(file=io.StringIO()), now=FakeClock())
    assert live.line() == "eval 0"


def test_a_line_says_what_goes_on_only_after_a_silence() -> None:
    """After 8 s, then 16, 32 and at most 60 s without a line; a step begins anew."""
    out, now = io.StringIO(), FakeClock()
    live = LiveSummary("rl", total=10, console=Console(file=out, width=40), now=now)
    shown_at = []
    for second in range(1, 190):
        now.time = 100.0 + second
        before = out.getvalue()
        live.show_activity("starting engines")
        if out.getvalue() != before:
            shown_at.append(second)
    assert shown_at == [8, 24, 56, 116, 176]
    assert out.getvalue().splitlines()[0] == "rl 0/10: starting engines"
    live.update(1, {})
    out.truncate(0)
    now.time += 7.9
    live.show_activity("learner")
    assert "learner" not in out.getvalue()
    now.time += 0.1
    live.show_activity("learner")
    assert "rl 1/10: learner" in out.getvalue()


def test_the_screen_shows_the_activity_at_once() -> None:
    out, now = io.StringIO(), FakeClock()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    with LiveSummary("rl", total=10, console=console, now=now) as live:
        live.show_activity("collecting groups [1]")
        assert "collecting groups [1]" in out.getvalue()


def test_the_pace_counts_from_the_start_of_the_steps() -> None:
    now = FakeClock()
    live = LiveSummary("rl", total=10, console=Console(file=io.StringIO()), now=now)
    now.time += 100  # engines start
    live.start(4)
    now.time += 30
    live.update(5, {})
    assert live.line() == "rl 5/10, 2.0 steps/min, 0:30 elapsed, 2:30 left"

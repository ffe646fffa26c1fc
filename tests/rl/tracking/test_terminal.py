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

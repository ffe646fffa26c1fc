"""Lines of progress of an evaluation, on a clock of the test's own."""

import pytest

from rl.tracking import episode_progress
from rl.tracking.episode_progress import EpisodeProgress


def test_a_time_left_is_told_once_a_tenth_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 of 1,024 are new. 3 of them in 10 s say nothing; 100 in 40 s leave 900, so 360 s."""
    now = [100.0]
    monkeypatch.setattr(episode_progress.time, "monotonic", lambda: now[0])
    progress = EpisodeProgress("eval: rl", total=1024, kept=24)
    assert progress.line() == "eval: rl: 24/1024 episodes, 0:00 elapsed"
    now[0], progress.done = 110.0, 27
    assert progress.line() == "eval: rl: 27/1024 episodes, 0:10 elapsed"
    now[0], progress.done = 140.0, 124
    assert progress.line() == "eval: rl: 124/1024 episodes, 0:40 elapsed, about 6:00 left"
    now[0], progress.done = 150.0, 1024
    assert progress.line() == "eval: rl: 1024/1024 episodes, 0:50 elapsed, about 0:00 left"

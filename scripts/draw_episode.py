"""Draw one real forked episode of a run as SVG (and print it as text).

    python scripts/draw_episode.py runs/demo --out docs/episode.svg

Takes an evaluated episode of the last trained stage: the smallest solved one with three to seven children.
`--id` picks another.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from data.episodes.topology import total_tokens, width
from data.episodes.trajectory import Episode
from data.episodes.wire import read_episodes
from data.errors import BraidError, ConfigError
from data.text.codec import load_codec
from rl.drawing.svg import render_svg
from rl.drawing.text import render_text
from rl.evaluation.outcome_file import load_outcomes
from rl.evaluation.outcomes import Outcome
from rl.storage.run_directory import RunDirectory


def choose(episodes: Iterable[Episode], outcomes: Iterable[Outcome]) -> Episode:
    """The smallest solved episode with three to seven children. Raises ConfigError when there is none."""
    solved = {outcome.problem_id for outcome in outcomes if outcome.correct}
    fitting = [episode for episode in episodes if episode.problem_id in solved and 3 <= width(episode) <= 7]
    if not fitting:
        raise ConfigError("no solved episode with three to seven children among those kept; give --id")
    return min(fitting, key=total_tokens)


def main() -> int:
    """-> process exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="SVG file")
    parser.add_argument("--stage", default="eval", help="evaluation stage; default eval")
    parser.add_argument("--id", help="id of the episode")
    arguments = parser.parse_args()
    try:
        directory = RunDirectory(arguments.run)
        name = directory.recipe().policy_stages()[-1].name
        folder = directory.path / "stages" / arguments.stage
        episodes = list(read_episodes(folder / f"{name}.sampled.episodes.jsonl.gz"))
        if arguments.id is None:
            episode = choose(episodes, load_outcomes(folder / f"{name}.sampled.jsonl"))
        else:
            episode = next(episode for episode in episodes if episode.id == arguments.id)
    except (BraidError, StopIteration, OSError) as error:
        print(f"draw_episode: {error or 'no episode of that id'}", file=sys.stderr)
        return 2
    codec = load_codec(directory.start)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(render_svg(episode, codec.decode), encoding="utf-8")
    print(render_text(episode, codec.decode))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The recorded episodes of a run, file by file, with everything that an export needs of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.errors import ConfigError
from rl.drawing.layout import Decode
from rl.reporting.contents import Shown
from rl.reporting.gaps import Gaps
from rl.reporting.recorded import place_of, read_shown, record_files
from rl.reporting.telling import Teller, open_teller
from rl.storage.files import read_json
from rl.storage.identity import RECIPE_FILE
from rl.storage.run_directory import RunDirectory


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One file of recorded episodes."""

    run: str
    """Name of the run directory."""
    recipe: str
    stage: str
    kind: str
    """Kind of the stage, such as "rl" or "eval"."""
    file: Path
    teller: Teller

    @property
    def place(self) -> str:
        """Name of the file within its stage, such as "record/step-000012" or "rl.sampled"."""
        return place_of(self.file)

    @property
    def written(self) -> float:
        """Time at which its last episode had ended, in seconds since 1970; the record has no clock times."""
        return self.file.stat().st_mtime

    @property
    def decode(self) -> Decode:
        """Token ids to text, structural tokens included."""
        return self.teller.decode

    def episodes(self) -> Iterator[Shown]:
        """Its episodes with their rewards. Raises BraidError when the file or its rewards are damaged."""
        return read_shown(self.file)

    def problem(self, shown: Shown) -> str:
        """Text of an episode's problem; the prompt of its first call where the run cannot tell it."""
        text = self.teller.tell(self.stage, "", shown).problem
        episode = shown.episode
        return text or (self.decode(episode.context_ids(episode.calls[0])) if episode.calls else "")


def sources(run: Path, stage_name: str | None) -> list[Source]:
    """The files of one stage, or of all, in the order of the recipe.

    Raises ConfigError for a directory that is no run, an unknown stage, and when nothing is recorded.
    """
    directory = RunDirectory(run)
    recipe = read_json(directory.path / RECIPE_FILE)
    teller = open_teller(directory, Gaps())
    folders = sorted(path.name for path in (directory.path / "stages").glob("*"))
    kinds = {str(stage["name"]): str(stage["kind"]) for stage in recipe["stages"]}
    # `braid eval` makes stages that the recipe does not have.
    names = [*kinds, *(name for name in folders if name not in kinds)]
    if stage_name is not None and stage_name not in names:
        raise ConfigError(
            f"--stage {stage_name}: {run} has no such stage\n  fix: name one of {', '.join(names)}"
        )
    found = [
        Source(
            run=directory.path.name, recipe=str(recipe["name"]), stage=name, kind=kinds.get(name, "eval"),
            file=file, teller=teller,
        )
        for name in names
        if stage_name in (None, name)
        for file in record_files(directory.path / "stages" / name)
    ]  # fmt: skip
    if not found:
        raise ConfigError(
            f"{run}: no episode is recorded{f' by stage {stage_name}' if stage_name else ''}\n"
            "  fix: train an rl stage, or evaluate with keep_episodes, first"
        )
    return found

"""Recipe section `tracking`: where metrics go besides metrics.jsonl."""

from typing import Literal

from pydantic import Field

from data.params import Params

TrackerName = Literal["tensorboard", "wandb", "trackio", "mlflow"]
Vocabulary = Literal["trl", "verl"]


class TrackingConfig(Params):
    """Trackers that are sent every step while the run goes on; `braid track` sends a run at any time."""

    trackers: tuple[TrackerName, ...] = ("tensorboard",)
    """Trackers that get the metrics of each step. One that fails or is not installed never ends a run."""
    project: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)
    """Name under which a tracker keeps runs together (null: the recipe's name)."""
    aliases: tuple[Vocabulary, ...] = ()
    """Send metrics also under the names that users of these trainers know."""

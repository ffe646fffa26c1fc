"""Section `lora`: low-rank adapters, two small trained matrices beside each frozen layer."""

from collections.abc import Iterable

from pydantic import Field

from data.params import Params


class Lora(Params):
    """A layer's weight W is frozen; the layer computes with W + (alpha / rank) B A (arXiv 2106.09685).

    No dropout: the learner's log-probabilities must be those of the engine.
    """

    rank: int = Field(default=16, ge=1, le=65_536)
    """Rows of A and columns of B."""
    alpha: float = Field(default=32.0, gt=0, le=1e6)
    """B A is scaled by alpha / rank."""
    targets: tuple[str, ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), min_length=1
    )
    """Linear layers that get an adapter: names, or the ends of dotted paths. The output layer gets none."""

    @property
    def scaling(self) -> float:
        """The factor of B A."""
        return self.alpha / self.rank

    def layers(self, paths: Iterable[str]) -> list[str]:
        """Those of a model's linear layers, as dotted paths, that a target names."""
        return sorted(path for path in paths if any(_names(target, path) for target in self.targets))

    def unmatched(self, paths: Iterable[str]) -> list[str]:
        """The targets that name none of a model's linear layers."""
        known = list(paths)
        return [target for target in self.targets if not any(_names(target, path) for path in known)]


def _names(target: str, path: str) -> bool:
    return path == target or path.endswith(f".{target}")

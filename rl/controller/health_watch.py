"""Reports the findings of `rl.controller.health` and ends the run when the recipe's patience is over."""

from collections.abc import Callable, Mapping
from typing import Any

from data.errors import StalledRun
from data.ledger.ledger import Ledger
from rl.config.stages import RlStage
from rl.controller.health import Condition, Finding, Health, protocol_limits
from rl.scored_group import ScoredGroup
from rl.tracking.metrics import MetricsWriter, read_metrics
from rollout.protocols import AnyParams


class HealthWatch:
    """Feeds the detectors of one stage and reports to the screen, the ledger and `metrics.jsonl`."""

    def __init__(
        self,
        stage: RlStage,
        params: AnyParams,
        ledger: Ledger,
        report: Callable[[str, str, str], None],
    ) -> None:
        """`report` is called with (stage name, kind, message) for the screen and the ledger."""
        self._stage, self._ledger, self._report = stage, ledger, report
        self._health = Health(stage, protocol_limits(params))
        self._metrics: MetricsWriter | None = None

    def open(self, metrics: MetricsWriter) -> None:
        """Write warnings into `metrics`; streaks of the steps that it already holds go on."""
        self._metrics = metrics
        row: Mapping[str, Any]
        for row in read_metrics(metrics.path, self._stage.name):
            if row["step"]:
                self._health.on_step(row["step"] - 1, row)

    def on_group(self, group: ScoredGroup, signal: bool) -> None:
        """The next decided group. Raises StalledRun when no group has had signal for too long."""
        finding = self._health.on_group(group, signal=signal)
        if finding is not None:
            self._warn(finding)

    def on_step(self, step: int, row: Mapping[str, float]) -> None:
        """The metrics of a finished step (0-based), once they are written. Raises StalledRun when a condition
        has held for too long.
        """
        for finding in self._health.on_step(step, row):
            self._warn(finding)

    def _warn(self, finding: Finding) -> None:
        stage, metrics = self._stage, self._metrics
        assert metrics is not None, "open() first"
        streak = {f"health/{finding.condition}": float(finding.streak)}
        if metrics.is_empty:
            metrics.write(0, streak)
        else:
            metrics.add(streak)
        if not finding.fatal or stage.health.action == "warn":
            self._report(stage.name, "health", f"{finding.text}\n  fix: {finding.remedy}")
            return
        by_groups = finding.condition in (Condition.NO_SIGNAL, Condition.UNGRADED)
        self._ledger.fault(stage.name, "health", finding.text)
        raise StalledRun(
            f"{stage.name}: {finding.text}; the run ends here by {stage.name}.health."
            f"patience_{'groups' if by_groups else 'steps'} and can be resumed from its last checkpoint\n"
            f"  fix: {finding.remedy}"
        )

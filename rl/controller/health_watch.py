"""Reports the findings of `rl.controller.health` and ends the run when the recipe's patience is over."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data.errors import StalledRun
from rl.config.stages import RlStage
from rl.controller.health import Finding, Health, protocol_limits
from rl.scored_group import ScoredGroup
from rl.tracking.metrics import MetricsWriter, read_metrics
from rollout.protocols import AnyParams


class HealthWatch:
    """Feeds the detectors of one stage and reports to the screen, the ledger and `metrics.jsonl`."""

    def __init__(
        self,
        stage: RlStage,
        params: AnyParams,
        report: Callable[[str, str, str], None],
        record: Callable[[str, str, str], None],
    ) -> None:
        """Both are called with (stage name, kind, message): `report` for the screen and the ledger, `record`
        for the ledger alone.
        """
        self._stage, self._report, self._record = stage, report, record
        self._health = Health(stage, protocol_limits(params))
        self._metrics: MetricsWriter | None = None
        self._has_ended = False
        """Whether StalledRun was raised; groups that finish later are not reported."""

    def open(self, metrics: MetricsWriter) -> None:
        """Write warnings into `metrics`; streaks of the steps already in it continue."""
        self._metrics = metrics
        row: Mapping[str, Any]
        for row in read_metrics(metrics.path, self._stage.name):
            if row["step"]:
                self._health.on_step(row["step"] - 1, row)

    def on_group(self, group: ScoredGroup, signal: bool) -> None:
        """The next decided group. Raises StalledRun when no group has had signal for too long."""
        finding = self._health.on_group(group, signal=signal)
        if finding is not None and not self._has_ended:
            self._report_all([finding], f"{self._stage.name}.health.patience_groups")

    def on_step(self, step: int, row: Mapping[str, float]) -> None:
        """The metrics of a finished step (0-based), once they are written. Raises StalledRun when a condition
        has held for too long.
        """
        findings = self._health.on_step(step, row)
        if findings:
            self._report_all(findings, f"{self._stage.name}.health.patience_steps")

    def _report_all(self, findings: Sequence[Finding], patience_key: str) -> None:
        name, metrics = self._stage.name, self._metrics
        assert metrics is not None, "open() first"
        streaks = {f"health/{finding.condition}": float(finding.streak) for finding in findings}
        if metrics.is_empty:
            metrics.write(0, streaks)
        else:
            metrics.add(streaks)
        fatal = [finding for finding in findings if finding.fatal and self._stage.health.action == "stop"]
        for finding in findings:
            # The error below shows what ends the run.
            write = self._record if finding in fatal else self._report
            write(name, "health", f"{finding.text}; fix: {finding.remedy}")
        if fatal:
            self._has_ended = True
            raise StalledRun(
                f"{name}: {'; '.join(finding.text for finding in fatal)}. The run ends here ({patience_key}) "
                "and can be resumed from its last checkpoint\n"
                f"  fix: {'; '.join(finding.remedy for finding in fatal)}"
            )

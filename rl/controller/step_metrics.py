"""Metrics of one trained batch: reward/ (also by term), tokens/, threads/, share/, outcome/, limit/ and
staleness/. `data.episodes.monitors` defines the monitors among them.
"""

from collections import defaultdict
from collections.abc import Sequence

from data.episodes.monitors import observe, shares
from data.episodes.topology import (
    concurrency,
    critical_tokens,
    depth,
    parallel_share,
    peak_concurrency,
    probe_tokens,
    scorer_tokens,
    total_tokens,
    unique_width,
    width,
)
from data.episodes.trajectory import Episode, StopReason
from rewards.score import Score, Ungraded
from rewards.verifiers.base import OutcomeKind
from rl.evaluation.auc import auc
from rl.scored_group import ScoredGroup
from rollout.scoring_table import WITHDRAWN


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0 for no values."""
    return sum(values) / len(values) if values else 0.0


def batch_metrics(step: int, groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """Metrics of the groups that `step` trains: means over their episodes unless the name says otherwise."""
    episodes = [episode for group in groups for episode in group.episodes]
    scores = [score for group in groups for score in group.scores]
    calls = [call for episode in episodes for call in episode.calls]
    opened = sum(map(width, episodes))
    return {
        **_rewards(scores),
        **_opinions(scores),
        "accuracy": mean([float(score.correct) for score in scores if score.correct is not None]),
        "share/activation": mean([float(width(episode) > 0) for episode in episodes]),
        "share/wrong_claims": mean(
            [
                float(e.answer is not None and s.correct is False)
                for e, s in zip(episodes, scores, strict=True)
            ]
        ),
        "share/violations": mean([float(bool(episode.violations)) for episode in episodes]),
        "share/truncated_calls": mean([float(call.stop is StopReason.LENGTH) for call in calls]),
        "share/parallel_tokens": mean([parallel_share(episode) for episode in episodes]),
        "share/unique_threads": sum(map(unique_width, episodes)) / opened if opened else 1.0,
        "threads/width": mean([float(width(episode)) for episode in episodes]),
        "threads/depth": mean([float(depth(episode)) for episode in episodes]),
        "threads/concurrency": mean([concurrency(episode) for episode in episodes]),
        "threads/peak": mean([float(peak_concurrency(episode)) for episode in episodes]),
        **shares([observe(episode) for episode in episodes]),
        "tokens/total": mean([float(total_tokens(episode)) for episode in episodes]),
        "tokens/critical": mean([float(critical_tokens(episode)) for episode in episodes]),
        "tokens/sampled": float(sum(map(total_tokens, episodes)) + sum(map(probe_tokens, episodes))),
        **_asked(episodes),
        **_probed(episodes, scores),
        # Which prefixes are still cached depends on timing, so the seed does not determine this metric.
        "time/cached_tokens": float(sum(call.cached_tokens for call in calls)),
        **_staleness(step, episodes),
    }


_COUNTED = {
    OutcomeKind.CORRECT: "answers_correct",
    OutcomeKind.WRONG: "answers_wrong",
    OutcomeKind.ANSWER_UNPARSABLE: "answers_unparsable",
    OutcomeKind.GOLD_UNPARSABLE: "golds_unparsable",
    OutcomeKind.FAULT: "verifier_faults",
}
"""Outcome of the verifier -> the counter of its episodes. The rest gave no answer, or failed."""


def _rewards(scores: Sequence[Score]) -> dict[str, float]:
    graded = [score for score in scores if score.value is not None]
    parts: dict[str, list[float]] = defaultdict(list)
    for score in graded:
        for name, value in score.components.items():
            parts[name].append(value)
        placed = dict.fromkeys((reward.term for reward in score.local_rewards), 0.0)
        for reward in score.local_rewards:
            placed[reward.term] += reward.value
        for name, value in placed.items():
            parts[f"{name}_placed"].append(value)
    return {
        "reward/mean": mean([score.value for score in graded if score.value is not None]),
        "reward/ungraded": float(len(scores) - len(graded)),
        **{
            f"reward/ungraded_{why}": float(sum(score.ungraded is why for score in scores))
            for why in Ungraded
        },
        **{
            f"reward/{name}": float(sum(s.outcome is kind for s in scores)) for kind, name in _COUNTED.items()
        },
        "reward/failed_terms": float(sum(len(score.failed_terms) for score in scores)),
        **{f"reward/{name}": mean(values) for name, values in sorted(parts.items())},
    }


def _opinions(scores: Sequence[Score]) -> dict[str, float]:
    """What the scorer thinks, beside the truth; {} where no scorer was asked.

    Where its opinion is rewarded, `scorer/mean` rises: it means something only together with
    `scorer/accuracy`, the share of right answers among the same episodes (rl.controller.hacking).
    """
    judged = [(score.opinion, score.correct) for score in scores if score.opinion is not None]
    if not judged:
        return {}
    known = [(opinion, float(correct)) for opinion, correct in judged if correct is not None]
    area = auc([opinion for opinion, _ in known], [correct for _, correct in known])
    return {
        "scorer/mean": mean([opinion for opinion, _ in judged]),
        "scorer/missing": float(len(scores) - len(judged)),
        **({"scorer/accuracy": mean([correct for _, correct in known])} if known else {}),
        **({} if area is None else {"scorer/auc": area}),
    }


def _asked(episodes: Sequence[Episode]) -> dict[str, float]:
    """What guiding a search has cost; {} where nobody asked a scorer while episodes ran."""
    scorings = [scoring for episode in episodes for scoring in episode.scorings]
    if not scorings:
        return {}
    return {
        "tokens/scorer": mean([float(scorer_tokens(episode)) for episode in episodes]),
        "scorer/failures": float(sum(s.failure not in ("", WITHDRAWN) for s in scorings)),
    }


def _probed(episodes: Sequence[Episode], scores: Sequence[Score]) -> dict[str, float]:
    """What forced answers have cost, which `tokens/sampled` contains, and shown; {} where there were none."""
    if not any(episode.probes for episode in episodes):
        return {}
    regrets = [score.regret for score in scores if score.regret is not None]
    return {
        "tokens/probes": float(sum(map(probe_tokens, episodes))),
        "probes/number": mean([float(len(episode.probes)) for episode in episodes]),
        "probes/answered": mean(
            [float(probe.answer is not None) for episode in episodes for probe in episode.probes]
        ),
        **({"probes/regret": mean(regrets)} if regrets else {}),
    }


def _staleness(step: int, episodes: Sequence[Episode]) -> dict[str, float]:
    """Mean and maximum, over the sampled tokens, of the step minus the version that sampled them."""
    weighted = [
        (step - span.version, span.stop - span.start)
        for episode in episodes
        for call in episode.calls
        for span in call.versions
    ]
    tokens = sum(size for _, size in weighted)
    return {
        "staleness/mean": sum(lag * size for lag, size in weighted) / tokens if tokens else 0.0,
        "staleness/max": float(max((lag for lag, size in weighted if size), default=0)),
    }

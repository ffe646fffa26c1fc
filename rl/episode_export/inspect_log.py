"""Episodes as Inspect's logs (`.eval`): what `inspect view` and `inspect_ai.log.read_eval_log` open.

One log for each evaluation of a checkpoint, and one for the record of each rl stage. A problem is a sample,
its episodes are epochs; threads are spans of the transcript and calls are model events in them.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

from data.episodes.topology import critical_tokens, total_tokens
from data.episodes.trajectory import Call, StopReason
from data.errors import ConfigError
from rl.episode_export.source import Source
from rl.reporting.contents import Shown

try:
    from inspect_ai.event import Event, ModelEvent, SpanBeginEvent, SpanEndEvent
    from inspect_ai.log import (
        EvalConfig,
        EvalDataset,
        EvalLog,
        EvalMetric,
        EvalResults,
        EvalSample,
        EvalScore,
        EvalSpec,
        write_eval_log,
    )  # fmt: skip
    from inspect_ai.model import (
        ChatCompletionChoice,
        ChatMessageAssistant,
        ChatMessageUser,
        GenerateConfig,
        ModelOutput,
        ModelUsage,
    )  # fmt: skip
    from inspect_ai.scorer import Score
except ImportError as error:
    raise ConfigError(
        f"--to inspect: Inspect cannot be imported ({error})\n"
        "  fix: .venv/bin/pip install --no-deps -r requirements/inspect.txt"
    ) from error

_STOPS = {StopReason.STOP: "stop", StopReason.LENGTH: "max_tokens"}
"""Inspect's word for why a call ended; "unknown" for the rest."""


def write_logs(found: Sequence[Source], folder: Path) -> list[tuple[Path, int]]:
    """Write one log for each evaluation and each record. -> (path, number of episodes) of each."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for (stage, place), files in groupby(found, key=lambda s: (s.stage, s.place.split("/")[0])):
        path = folder / f"{stage}.{place}.eval"
        log = make_log(list(files))
        write_eval_log(log, str(path))
        written.append((path, len(log.samples or ())))
    return written


def make_log(files: Sequence[Source]) -> EvalLog:
    """The log of files that belong together: an evaluation's, or all steps of a record."""
    first, epochs = files[0], Counter[str]()
    samples, shown = [], list[Shown]()
    for source in files:
        for each in source.episodes():
            epochs[each.episode.problem_id] += 1
            samples.append(_sample(source, each, epochs[each.episode.problem_id]))
            shown.append(each)
    return EvalLog(
        status="success",
        eval=EvalSpec(
            created=datetime.fromtimestamp(first.written, UTC).isoformat(),
            task=f"{first.recipe}/{first.stage}",
            dataset=EvalDataset(name=first.recipe, samples=len(epochs), sample_ids=list(epochs)),
            model=_model(first),
            config=EvalConfig(epochs=max(epochs.values(), default=1)),
            metadata={"run": first.run, "stage": first.stage, "place": first.place.split("/")[0]},
        ),
        results=EvalResults(total_samples=len(samples), completed_samples=len(samples), scores=_means(shown)),
        samples=samples,
    )


def _model(source: Source) -> str:
    checkpoint = source.stage if source.kind == "rl" else source.place.rsplit(".", 1)[0]
    return f"braid/{source.run}-{checkpoint}"


def _means(shown: Sequence[Shown]) -> list[EvalScore]:
    """Mean reward and accuracy over the episodes that have them."""
    columns = {
        "reward": [each.reward for each in shown if each.reward is not None],
        "correct": [float(each.correct) for each in shown if each.correct is not None],
    }
    return [
        EvalScore(
            name=name,
            scorer=name,
            scored_samples=len(values),
            unscored_samples=len(shown) - len(values),
            metrics={"mean": EvalMetric(name="mean", value=sum(values) / len(values))},
        )
        for name, values in columns.items()
        if values
    ]


def _sample(source: Source, shown: Shown, epoch: int) -> EvalSample:
    episode, model = shown.episode, _model(source)
    seconds = max((call.finished_s for call in episode.calls), default=0.0)
    began = datetime.fromtimestamp(source.written - seconds, UTC)
    problem, answer = source.problem(shown), episode.answer_ids()
    root = [call for call in episode.calls if call.thread == 0]
    text = "".join(source.decode(call.output) for call in root)
    usage = ModelUsage(
        input_tokens=sum(len(episode.context_ids(call)) for call in episode.calls),
        output_tokens=total_tokens(episode),
        total_tokens=sum(len(episode.context_ids(c)) + len(c.output) for c in episode.calls),
    )
    choice = ChatCompletionChoice(
        message=ChatMessageAssistant(content=text, source="generate", model=model),
        stop_reason=_STOPS.get(root[-1].stop, "unknown") if root else "unknown",
    )
    return EvalSample(
        id=episode.problem_id,
        epoch=epoch,
        input=problem,
        target="",
        messages=[ChatMessageUser(content=problem), choice.message],
        output=ModelOutput(model=model, choices=[choice], usage=usage, time=seconds),
        scores=_scores(shown, None if answer is None else source.decode(answer)),
        metadata={
            "episode": episode.id,
            "place": source.place,
            "protocol": episode.protocol,
            "outcome": episode.outcome.value,
            "threads": len(episode.threads),
            "total_tokens": total_tokens(episode),
            "critical_tokens": critical_tokens(episode),
            "violations": [f"{v.kind.value} in call {v.call}" for v in episode.violations],
        },
        events=_events(source, shown, began),
        model_usage={model: usage},
        started_at=began.isoformat(),
        completed_at=(began + timedelta(seconds=seconds)).isoformat(),
        total_time=seconds,
    )


def _scores(shown: Shown, answer: str | None) -> dict[str, Score]:
    found = {}
    if shown.reward is not None:
        found["reward"] = Score(
            value=shown.reward, answer=answer, explanation=shown.reason, metadata=dict(shown.parts)
        )
    if shown.correct is not None:
        found["correct"] = Score(value="C" if shown.correct else "I", answer=answer, explanation=shown.reason)
    return found


def _events(source: Source, shown: Shown, began: datetime) -> list[Event]:
    """The transcript: a span for each thread, inside that of its parent, and in it the thread's calls."""
    episode = shown.episode
    events: list[Event] = []

    def at(seconds: float) -> datetime:
        return began + timedelta(seconds=seconds)

    def tell(thread: int) -> None:
        calls = [call for call in episode.calls if call.thread == thread]
        start = calls[0].started_s if calls else 0.0
        parent = episode.threads[thread].parent
        id, above = f"thread-{thread}", None if parent is None else f"thread-{parent}"
        name = f"thread {thread} ({episode.threads[thread].outcome.value})"
        events.append(
            SpanBeginEvent(
                id=id,
                span_id=id,
                parent_id=above,
                type="agent",
                name=name,
                timestamp=at(start),
                working_start=start,
            )
        )
        told = set[int]()
        for call in calls:
            events.append(_model_event(source, shown, call, id, at(call.started_s)))
            told |= below(thread, call.index)
        for child in sorted(below(thread, None) - told):  # opened before the thread's first call
            tell(child)
        stop = max((call.finished_s for call in calls), default=start)
        events.append(SpanEndEvent(id=id, span_id=id, timestamp=at(stop), working_start=stop))

    def below(thread: int, opened_by: int | None) -> set[int]:
        children = {
            child.index
            for child in episode.threads
            if child.parent == thread and opened_by in (None, child.opened_by)
        }
        if opened_by is not None:
            for child in sorted(children):
                tell(child)
        return children

    for thread in episode.threads:
        if thread.parent is None:
            tell(thread.index)
    return events


def _model_event(source: Source, shown: Shown, call: Call, span: str, when: datetime) -> ModelEvent:
    context, text = shown.episode.context_ids(call), source.decode(call.output)
    usage = ModelUsage(
        input_tokens=len(context),
        output_tokens=len(call.output),
        total_tokens=len(context) + len(call.output),
    )
    choice = ChatCompletionChoice(
        message=ChatMessageAssistant(content=text, source="generate"),
        stop_reason=_STOPS.get(call.stop, "unknown"),
    )
    return ModelEvent(
        span_id=span,
        timestamp=when,
        working_start=call.started_s,
        model=_model(source),
        role=call.role,
        input=[ChatMessageUser(content=source.decode(context))],
        tools=[],
        tool_choice="none",
        config=GenerateConfig(seed=call.seed),
        output=ModelOutput(
            model=_model(source), choices=[choice], usage=usage, time=call.finished_s - call.started_s
        ),
        completed=when + timedelta(seconds=call.finished_s - call.started_s),
        working_time=call.finished_s - call.started_s,
    )

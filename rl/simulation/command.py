"""`braid plan`: predict throughput, idle time and staleness of an rl stage for a grid of settings."""

from dataclasses import asdict, replace

from data.errors import ConfigError
from data.tasks.dataset.task import Dataset
from data.whole_file import write_json
from rl.config import Recipe
from rl.config.model import PretrainedModel
from rl.config.stages import RlStage
from rl.config.task import DatasetTask, TaskConfig
from rl.preflight.sizes import device_memory
from rl.simulation.choices import best_of, document, simulate_choices, table
from rl.simulation.load import load_of_lengths
from rl.simulation.measure import measure_rates, recorded_workload
from rl.simulation.plan import Plan, Rates, Workload
from rl.simulation.question import Question, ensure_consistent
from rl.simulation.recorded import RecordedRun, read_run, rl_stage
from rl.simulation.simulator import simulate

GIVEN_GROUPS = 64
"""Number of groups made from the given lengths of episodes."""


_NOTHING = Question()


def plan(recipe: Recipe, question: Question) -> int:
    """Print the table of all choices, and write it. -> process exit code.

    Raises ConfigError when options contradict each other or too little is known.
    """
    engines = _engines(recipe, question)
    ensure_consistent(question, engines)
    stage = rl_stage(recipe, question.stage, recipe.source)
    run = None if question.run is None else read_run(question.run, question.stage)
    measured = None if run is None else measure_rates(run)
    rates = _rates(question, stage, run, measured)
    base = plan_of(recipe, stage, rates, run, question)
    print(f"{recipe.source}: stage {stage.name!r}, {stage.samples_per_group} episodes a group")
    print(_describe(rates, recipe.engine.tensor_parallel))
    print(_memory(recipe))
    if run is not None and measured is not None:
        print(_compare(run, measured))
        if run.recipe.model != recipe.model:
            print("note: the run trained another model; its rates are not this recipe's")
        if run.recipe.engine.tensor_parallel != recipe.engine.tensor_parallel and question.decode_ms is None:
            print(_other_ranks(run.recipe, recipe))
    choices = list(
        simulate_choices(
            base,
            staleness=sorted(set(question.staleness or (0, 1, 2, 4, stage.staleness))),
            engines=sorted(set(engines)),
            groups_per_step=sorted(set(question.groups_per_step or (stage.groups_per_step,))),
        )
    )
    best = best_of(choices)
    print(table(choices, best))
    if question.json is not None:
        found = {
            "recipe": recipe.name,
            "stage": stage.name,
            "rates": asdict(rates),
            "choices": [document(choice, best) for choice in choices],
        }
        try:
            write_json(question.json, found)
        except OSError as error:
            raise ConfigError(f"--json {question.json}: cannot be written ({error})") from error
    return 0


def _engines(recipe: Recipe, question: Question) -> list[int]:
    each = question.engines_per_node or recipe.engine.num_engines
    return [nodes * each for nodes in question.nodes or (1,)]


def _rates(question: Question, stage: RlStage, run: RecordedRun | None, measured: Rates | None) -> Rates:
    """Rates from the command line; what it leaves out comes from the run."""
    if measured is None or run is None:
        missing = [
            option
            for option, value in (
                ("--decode-ms", question.decode_ms),
                ("--learner-tokens-per-s", question.learner_tokens_per_s),
                ("--episode", question.episodes),
            )
            if not value
        ]
        if missing:
            raise ConfigError(
                f"no timing data: {', '.join(missing)} missing\n"
                "  fix: name a finished run with --from, or give all of these options"
            )
        measured, ranks = Rates(step_s=0.0, call_s=0.0, learner_token_s=0.0), 1
    else:
        ranks = run.stage.num_ranks
        if question.nodes is not None:
            # Engines on other nodes share no cores with the learner.
            measured = replace(measured, engine_contention=1.0, learner_contention=1.0)
    rates = replace(
        measured,
        learner_token_s=measured.learner_token_s * ranks / (question.learner_ranks or stage.num_ranks),
    )
    if question.decode_ms is not None:
        step_ms, call_ms = question.decode_ms
        rates = replace(rates, step_s=step_ms / 1000, call_s=call_ms / 1000)
    if question.learner_tokens_per_s is not None:
        rates = replace(rates, learner_token_s=1 / question.learner_tokens_per_s)
    if question.learner_s is not None:
        rates = replace(rates, learner_s=question.learner_s)
    if question.publish_s is not None:
        rates = replace(rates, publish_s=question.publish_s)
    if question.contention is not None:
        engine, learner = question.contention
        rates = replace(rates, engine_contention=engine, learner_contention=learner)
    return rates


def plan_of(
    recipe: Recipe, stage: RlStage, rates: Rates, run: RecordedRun | None, question: Question = _NOTHING
) -> Plan:
    """The plan of the recipe's own settings, with groups as in the run or as the question gives them."""
    samples, filtered = stage.samples_per_group, 0.0
    if question.episodes:
        lengths = question.episodes
        # Episodes that are neighbours in the list share a group, in every combination of positions.
        groups = [
            [lengths[(group * samples + sample) % len(lengths)] for sample in range(samples)]
            for group in range(GIVEN_GROUPS)
        ]
        workload = Workload(parts=(tuple(map(load_of_lengths, groups)),))
    else:
        assert run is not None
        workload = recorded_workload(run, rates, samples=samples)
    if run is not None and stage.drop_zero_variance:
        filtered = run.filtered_share
    validation = _validation_problems(recipe.task_of(stage)) * stage.validation_samples
    return Plan(
        rates=rates,
        workload=workload,
        steps=question.steps or stage.steps,
        groups_per_step=stage.groups_per_step,
        staleness=stage.staleness,
        engines=recipe.engine.num_engines,
        max_live_calls=recipe.engine.max_live_calls,
        filtered_share=filtered if question.filtered is None else question.filtered,
        validate_every=stage.validate_every,
        validation_groups=round(validation / samples),
    )


def _describe(rates: Rates, ranks: int) -> str:
    step_ms, call_ms = 1e3 * rates.step_s, 1e3 * rates.call_s
    engine = f"engine of {ranks} ranks" if ranks > 1 else "engine"
    tokens = f"{1 / rates.learner_token_s:.0f} tokens/s" if rates.learner_token_s else "no time per token"
    together = f"engine {rates.engine_contention:.2f}, learner {rates.learner_contention:.2f}"
    return (
        f"{engine}: a decode step with n calls takes {step_ms:.2f} + {call_ms:.4f} n ms; per-call overhead: "
        f"{rates.call_ticks:g} decode steps\n"
        f"learner: {rates.learner_s:.2f} s a step, {tokens}; publish: {rates.publish_s:.2f} s\n"
        f"slowdown while the other works: {together}"
    )


def _other_ranks(there: Recipe, here: Recipe) -> str:
    """A note that the run's engines are split otherwise. Rates are not scaled: how much faster more ranks are
    depends on model, batch and links, and one run does not show it.
    """
    before, now = there.engine.tensor_parallel, here.engine.tensor_parallel
    return (
        f"note: an engine of the run has {before} rank(s), of this recipe {now} (engine.tensor_parallel); "
        "the decode rate is the run's, not scaled: give --decode-ms if it is known"
    )


def _memory(recipe: Recipe) -> str:
    """What each device holds; of a pretrained model the shape is needed, which is in its directory."""
    model = recipe.model
    if isinstance(model, PretrainedModel) and not (model.path / "config.json").is_file():
        return f"memory: not known, since {model.path} holds no config.json"
    return "\n".join(f"{held.about}: {held.found}" for held in device_memory(recipe))


def measured_steps_per_hour(run: RecordedRun) -> float:
    """Steps per hour of a finished run, validations included, checkpoints excluded."""
    return 3600 * len(run.times) / run.times[-1].ended


def _compare(run: RecordedRun, rates: Rates) -> str:
    """One line: the run's measured and simulated steps per hour."""
    found = measured_steps_per_hour(run)
    simulated = simulate(plan_of(run.recipe, run.stage, rates, run)).steps_per_hour
    line = (
        f"the run itself: {found:.1f} steps/h measured, {simulated:.1f} simulated "
        f"({simulated / found - 1:+.0%})"
    )
    if run.stage.staleness == 0 and rates.engine_contention == rates.learner_contention == 1.0:
        line += "\nnote: a run with S = 0 never overlaps engine and learner; give --contention"
    return line


def _validation_problems(config: TaskConfig) -> int:
    """Number of problems that a validation has; the rows of a data set are counted as they are."""
    if not config.has("validation"):
        return 0
    if isinstance(config, DatasetTask):
        return len(Dataset(config.params).load()["validation"].problems)
    return config.num_problems("validation")

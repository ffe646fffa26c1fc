"""The model card (README.md of an export): what the model is, how it was made, figures, limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from rl.evaluation.table import headline, markdown_table
from rollout.protocols import PROTOCOLS


@dataclass(frozen=True, kw_only=True, slots=True)
class CardFacts:
    """The content of a card apart from the measured figures."""

    name: str
    """Name of the model, e.g. "braid-countdown-spawn-join"."""
    task: str
    """Task name, e.g. "countdown"."""
    protocol: str
    """Protocol name, e.g. "spawn_join"."""
    recipe: str
    """File name of the recipe."""
    command: str
    """The command that produced model and figures."""
    parameters: int
    """Number of the model's weights."""
    base_model: str | None = None
    """Hugging Face id of the model that training began from; None for random weights."""
    licence: str | None = None
    """SPDX id; left out when unknown."""
    checkpoint: str
    """Name of the stage whose weights these are, or `start`."""
    extensions: tuple[str, ...] = ()
    """File names of the recipe's extensions, each with its SHA-256."""
    stages: tuple[str, ...] = ()
    """One sentence for each stage that trained these weights; empty for `start`."""


TABLE_NOTE = (
    "Accuracy: mean over problems at the evaluation's temperature, with its 95% bootstrap interval over "
    "problems; greedy: at temperature 0. total: sampled tokens of an episode; critical: sampled tokens on "
    "its longest path, mean and 90th percentile; threads: all but the root; ≤B: share solved within "
    "B critical tokens."
)


def render_card(facts: CardFacts, summary: Mapping[str, Any]) -> str:
    """Markdown with YAML front matter, from `summary.json` or, when nothing was evaluated, {"arms": {}}."""
    sections = [
        f"# {facts.name}\n\n{_what(facts)}",
        f"## How it was trained\n\n{_training(facts)}",
        f"## Measured\n\n{_measured(facts, summary)}",
        f"## Use\n\n{_use(facts)}",
        f"## Limits\n\n{_limits(facts, summary)}",
    ]
    return f"---\n{_front_matter(facts)}---\n\n" + "\n\n".join(sections) + "\n"


def _front_matter(facts: CardFacts) -> str:
    matter: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["braid", "parallel-reasoning", "reinforcement-learning", facts.task, facts.protocol],
    }
    if facts.base_model is not None:
        matter["base_model"] = facts.base_model
    if facts.licence is not None:
        matter["license"] = facts.licence
    return yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)


def _what(facts: CardFacts) -> str:
    model = f"A language model ({facts.parameters:,} parameters) that solves {facts.task} problems"
    rules = PROTOCOLS[facts.protocol].card
    return (
        f"{model} by the `{facts.protocol}` protocol ({rules.source}). A child sees: {rules.child_context}. "
        f"The join: {rules.join}."
    )


def _training(facts: CardFacts) -> str:
    begun = f"the weights of `{facts.base_model}`" if facts.base_model else "random weights"
    if not facts.stages:
        return f"It was not trained: these are {begun}, with which the recipe `{facts.recipe}` begins."
    lines = [f"From {begun}, by Braid with the recipe `{facts.recipe}`."]
    lines.append("\n".join(f"{number}. {stage}" for number, stage in enumerate(facts.stages, start=1)))
    return "\n\n".join(lines)


def _measured(facts: CardFacts, summary: Mapping[str, Any]) -> str:
    if not summary["arms"]:
        return "Nothing: this model was exported without an evaluation."
    findings = "\n".join(f"- {line}" for line in headline(summary))
    made = f"Produced by:\n\n```\n{facts.command}\n```"
    return "\n\n".join([markdown_table(summary), TABLE_NOTE, findings, made])


def _use(facts: CardFacts) -> str:
    needed = f" Its recipe has extensions: {', '.join(facts.extensions)}." if facts.extensions else ""
    return (
        "Research on how models divide a search among threads. `protocol.json` says which tokens fork, join "
        f"and end a thread; drive the model by the `{facts.protocol}` protocol, for instance with Braid. "
        "Plain `transformers` or vLLM loads and samples single calls, but nothing then runs the threads."
        f"{needed}"
    )


def _limits(facts: CardFacts, summary: Mapping[str, Any]) -> str:
    figures = summary["arms"].get(facts.protocol, {}).get(facts.checkpoint)
    wrong = ""
    if figures:
        wrong = f" It claims a wrong answer in {100 * figures['wrong_claims']:.1f}% of the test episodes."
    vocabulary = "" if facts.base_model else " Its vocabulary has the words of this task and nothing else."
    return (
        f"It was trained only on {facts.task} problems of one distribution.{vocabulary}{wrong} "
        "The intervals cover the choice of test problems, not the spread between training seeds."
    )

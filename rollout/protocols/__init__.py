"""All protocols: one file each, with one line and an import here."""

from typing import Annotated, TypeAlias

from data.errors import ConfigError
from data.registered import Registered
from rollout.protocols.async_fork import AsyncFork
from rollout.protocols.beam import Beam
from rollout.protocols.best_first import BestFirst
from rollout.protocols.best_of_n import BestOfN
from rollout.protocols.budget_forcing import BudgetForcing
from rollout.protocols.drafted_steps import DraftedSteps
from rollout.protocols.dvts import Dvts
from rollout.protocols.early_rejection import EarlyRejection
from rollout.protocols.ets import Ets
from rollout.protocols.first_finish import FirstFinish
from rollout.protocols.forking_tokens import ForkingTokens
from rollout.protocols.latts import Latts
from rollout.protocols.outline_guided import OutlineGuided
from rollout.protocols.outlined_threads import OutlinedThreads
from rollout.protocols.parallel_paths import ParallelPaths
from rollout.protocols.plan_graph import PlanGraph
from rollout.protocols.rebase import Rebase
from rollout.protocols.rounds import Rounds
from rollout.protocols.self_consistency import SelfConsistency
from rollout.protocols.sequential import Sequential
from rollout.protocols.shared.base import Encoder, ForkingParams, ProtocolParams, ThinkingProtocol
from rollout.protocols.shared.framing import framing_of
from rollout.protocols.shared.framing_params import FramingKind
from rollout.protocols.spawn_join import SpawnJoin
from rollout.protocols.subtask_tree import SubtaskTree
from rollout.protocols.temporal_consistency import TemporalConsistency
from rollout.protocols.thought_tournament import ThoughtTournament

__all__ = [
    "PROTOCOLS",
    "AnyParams",
    "ThinkingProtocol",
    "build_protocol",
    "default_params",
    "params_like",
    "passing_results_on",
    "vocabulary",
    "with_forking_tags",
]

PROTOCOLS: dict[str, type[ThinkingProtocol]] = {
    protocol.name: protocol
    for protocol in (
        Sequential,
        SpawnJoin,
        AsyncFork,
        OutlinedThreads,
        ParallelPaths,
        SelfConsistency,
        BestOfN,
        FirstFinish,
        BudgetForcing,
        Rounds,
        OutlineGuided,
        ForkingTokens,
        PlanGraph,
        SubtaskTree,
        Beam,
        Dvts,
        Rebase,
        Ets,
        EarlyRejection,
        ThoughtTournament,
        BestFirst,
        Latts,
        DraftedSteps,
        TemporalConsistency,
    )
}
"""All protocols by name, in the order of tables and vocabularies."""

AnyParams: TypeAlias = Annotated[
    ProtocolParams,
    Registered(lambda: {name: protocol.params_class for name, protocol in PROTOCOLS.items()}),
]
"""Type of the recipe section `protocol`; its `name` picks the fields that are checked."""


def default_params(name: str) -> AnyParams:
    """A protocol's default parameters. Raises ConfigError for an unknown name."""
    if name not in PROTOCOLS:
        raise ConfigError(
            f"protocol {name!r}: there is no such protocol; choose from {', '.join(sorted(PROTOCOLS))}"
        )
    return PROTOCOLS[name].params_class.model_validate({"name": name})


def params_like(own: AnyParams, name: str) -> AnyParams:
    """Default parameters of a protocol for a model that was trained with `own`: its framing, but for the
    instructions of roles, and its ways to write answers and results.

    Raises ConfigError for an unknown name.
    """
    if name == own.name:
        return own
    framing = own.framing
    if framing is not None and framing.kind != "tags":
        framing = framing.model_copy(update={"instructions": {}})
    kept = {"framing": framing, "answer": own.answer, "result": own.result}
    return default_params(name).model_copy(update=kept)


def build_protocol(params: AnyParams, encoder: Encoder) -> ThinkingProtocol:
    """The protocol of a recipe section, for one tokenizer."""
    return PROTOCOLS[params.name](params, encoder)


def vocabulary(
    params: ProtocolParams, framing: FramingKind = "tags"
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(structural tags, further words) of the protocol that these parameters describe, notices included.

    `framing`: its kind where the parameters leave it out.
    """
    kind = framing if params.framing is None else params.framing.kind
    protocol = PROTOCOLS[params.name]
    tags, words = protocol.tags_in_use(params, kind), list(protocol.words_of(params))
    if isinstance(params, ForkingParams):
        words += [word for text in params.notices.values() for word in text.split()]
    # Tags have ids of their own, and every tokenizer knows the digits.
    return tags, tuple(dict.fromkeys(word for word in words if word not in tags and not word.isdigit()))


def can_speak(params: AnyParams, encoder: Encoder) -> bool:
    """Whether a tokenizer has all that a protocol writes. A vocabulary of words may lack some."""
    try:
        build_protocol(params, encoder)
        if encoder.words_only:
            tags, words = vocabulary(params, framing_of(params.framing, encoder).kind)
            for word in (*tags, *words):
                encoder.encode(word)
    except ConfigError:
        return False
    return True


def passing_results_on() -> list[str]:
    """Names of the protocols that can demonstrate parts which need each other's results."""
    return [name for name, protocol in PROTOCOLS.items() if protocol.handles_needs]


def with_forking_tags() -> list[str]:
    """Names of the protocols whose threads begin with forking tags."""
    return [name for name, protocol in PROTOCOLS.items() if protocol.params_class.has_forking_tags]

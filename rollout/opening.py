"""How long the beginning of an episode is."""

from data.episodes.trajectory import Forced
from data.text.prompt import Prompt
from rollout.protocols.shared.base import Fork, ThinkingProtocol


def opening_tokens(protocol: ThinkingProtocol, prompt: Prompt) -> int:
    """Tokens of the longest context that an episode of this problem begins with."""
    opening = protocol.open(prompt)
    asks = opening.children if isinstance(opening, Fork) else (opening.ask,)
    return max(sum(len(span.ids) for span in ask.context if isinstance(span, Forced)) for ask in asks)

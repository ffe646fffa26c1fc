"""Training of some roles only: calls of the other roles are sampled but carry no loss.

Source: PaCoRe (arXiv 2601.05593) trains the call that synthesises, and not those that explore.
"""

from collections.abc import Sequence

from data.episodes.trajectory import Episode


def role_mask(episode: Episode, roles: Sequence[str] | None) -> list[bool]:
    """[calls] whether the tokens of a call are trained; None stands for all roles.

    Example: an episode whose calls are parent, child, child, parent, and roles ("parent",):
        [True, False, False, True]
    """
    return [roles is None or call.role in roles for call in episode.calls]

"""Published flat texts as transcripts, and back.

Data sets and papers show a parallel episode as one text, as its last call sees it. `unflatten` splits such
a text into the calls that the protocol would have made; `rollout.transcript.read_transcript` builds the DAG
from them. A flat text does not show which threads were cancelled or retried, so only episodes without either
survive the way there and back. Exact text (that of a pretrained tokenizer) comes back byte for byte.
"""

from data.episodes.trajectory import Episode, Forced
from data.errors import TrajectoryError
from data.text.prompt import Prompt
from rollout.protocols.shared.base import EOS, Encoder, ThinkingProtocol
from rollout.protocols.shared.flat_text import TextCursor
from rollout.transcript import Transcript, spell


def unflatten(text: str, protocol: ThinkingProtocol, *, prompt: str = "") -> Transcript:
    """The calls of a published text, which begins behind the prompt.

    Raises TrajectoryError, with line and column, for text that does not fit the format: a thread that is
    missing, extra, unclosed or misplaced, and for a protocol without a published flat format. Mistakes of a
    model inside a call are left for the protocol to judge.
    """
    if not protocol.exact_text:
        text = text.strip()
    tags = protocol.tags_of(protocol.params)
    cursor = TextCursor(text.removesuffix(EOS), tags, exact=protocol.exact_text)
    return Transcript(protocol=protocol.name, prompt=prompt, calls=tuple(protocol.split_text(cursor)))


def flatten(episode: Episode, prompt: str, protocol: ThinkingProtocol, encoder: Encoder) -> str:
    """Context and output of the root's last call, without the prompt and the end of the sequence.

    Raises TrajectoryError when the episode does not begin with this prompt.
    """
    last = next((call for call in reversed(episode.calls) if call.thread == 0), None)
    if last is None:
        return ""
    text = spell((*episode.context_ids(last), *last.output), encoder)
    framed = protocol.frame(episode.calls[0].role, Prompt(prompt), begin="")
    before = spell(sum((span.ids for span in framed if isinstance(span, Forced)), ()), encoder)
    if not text.startswith(before):
        raise TrajectoryError(f"flat text: episode {episode.id} does not begin with {prompt!r}")
    text = text.removeprefix(before).removesuffix(EOS)
    return text if protocol.exact_text else text.strip()

"""Replies in the shapes of the OpenAI API, with Braid's own detail in the field `braid` of each choice.

choices[i].message.content             the answer, as the protocol reads it; "" when there is none
choices[i].message.reasoning_content   the root thread's text
choices[i].text                        (completions) the root thread's text
choices[i].braid                       costs, threads and, when asked for, the episode with every token
usage                                  tokens of all episodes and threads, cancelled ones included
"""

from collections.abc import Sequence
from typing import Any

from data.episodes.topology import (
    concurrency,
    critical_seconds,
    critical_tokens,
    total_seconds,
    total_tokens,
    width,
)
from data.episodes.trajectory import Call, Episode, Forced, Span, StopReason, ThreadOutcome
from data.episodes.wire import encode_episode
from data.text.codec import Codec
from rl.serving.served import Choice, Served

_LENGTH = (ThreadOutcome.TRUNCATED, ThreadOutcome.BUDGET)


def thread_name(path: Sequence[int]) -> str:
    """`root` for the root, `root.2.0` for the first thread that its third thread opened."""
    return ".".join(map(str, ("root", *path)))


def whole_reply(served: Served, created: int, fingerprint: str, prompt_tokens: int) -> dict[str, Any]:
    """The reply to a request that does not stream."""
    chat = served.asked.endpoint == "chat"
    return {
        "id": served.id,
        "object": "chat.completion" if chat else "text_completion",
        "created": created,
        "model": served.model,
        "system_fingerprint": fingerprint,
        "choices": [_choice(served, choice) for choice in served.choices],
        "usage": usage(served, prompt_tokens),
    }


def _choice(served: Served, choice: Choice) -> dict[str, Any]:
    episode = choice.episode
    found: dict[str, Any] = {"index": choice.index, "finish_reason": finish_reason(choice)}
    if served.asked.endpoint == "chat":
        found["message"] = {
            "role": "assistant",
            "content": answer_text(served, choice),
            "reasoning_content": root_text(served, choice),
            "refusal": None,
        }
        found["logprobs"] = None
        if served.asked.logprobs and episode is not None:
            found["logprobs"] = {"content": answer_logprobs(served.codec, episode), "refusal": None}
    else:
        found["text"] = root_text(served, choice)
        found["logprobs"] = None
        if served.asked.logprobs and episode is not None:
            found["logprobs"] = text_logprobs(served.codec, episode)
    found["braid"] = summary(served, choice, threads=served.asked.fields.braid.threads)
    return found


def finish_reason(choice: Choice) -> str:
    """`length` when a limit ended the root, else `stop`."""
    episode = choice.episode
    if choice.root.stopped or episode is None:
        return "stop"
    return "length" if episode.outcome in _LENGTH else "stop"


def root_text(served: Served, choice: Choice) -> str:
    """The root thread's text, up to a stop text."""
    if choice.watch.wants_tokens or choice.episode is None:
        return choice.root.text
    calls = [call for call in choice.episode.calls if call.thread == 0]
    return "".join(call_text(served.codec, call) for call in calls)


def call_text(codec: Codec, call: Call) -> str:
    """What a call says, without the ids that end it."""
    return codec.decode([index for index in call.output if index not in codec.ends])


def answer_text(served: Served, choice: Choice) -> str:
    """The answer; where a stop text ended the root, what its text has for one; "" when there is none."""
    if choice.root.stopped:
        found = served.params.answer.find(choice.root.text)
        return "" if found is None else choice.root.text[slice(*found)]
    ids = None if choice.episode is None else choice.episode.answer_ids()
    return "" if ids is None else served.codec.decode(ids).strip()


def usage(served: Served, prompt_tokens: int) -> dict[str, Any]:
    """Tokens of all choices together; the longest path is that of the choice with the longest."""
    episodes = [choice.episode for choice in served.choices if choice.episode is not None]
    sampled = sum(map(total_tokens, episodes))
    answers = sum(len(episode.answer_ids() or ()) for episode in episodes)
    cached = sum(call.cached_tokens for episode in episodes for call in episode.calls[:1])
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": sampled,
        "total_tokens": prompt_tokens + sampled,
        "critical_tokens": max(map(critical_tokens, episodes), default=0),
        "prompt_tokens_details": {"cached_tokens": min(cached, prompt_tokens)},
        "completion_tokens_details": {"reasoning_tokens": max(0, sampled - answers)},
    }


def summary(served: Served, choice: Choice, *, threads: bool) -> dict[str, Any]:
    """Costs and shape of an episode; `threads`: each thread with its calls as well."""
    episode = choice.episode
    found: dict[str, Any] = {"seed": choice.spec.seed, "protocol": served.params.name}
    if episode is None:
        return found | {"outcome": "cancelled", "answered": False, "total_tokens": 0, "critical_tokens": 0}
    root = episode.threads[0]
    found |= {
        "outcome": root.outcome.value,
        "limit": None if root.limit is None else root.limit.value,
        "answered": episode.answer is not None,
        "total_tokens": total_tokens(episode),
        "critical_tokens": critical_tokens(episode),
        "cancelled_tokens": sum(len(c.output) for c in episode.calls if c.stop is StopReason.ABORT),
        "context_tokens": sum(len(span) for call in episode.calls for span in call.context),
        "total_seconds": total_seconds(episode),
        "critical_seconds": critical_seconds(episode),
        "concurrency": concurrency(episode),
        "width": width(episode),
        "violations": [
            {
                "kind": one.kind.value,
                "thread": thread_name(_paths(episode)[episode.calls[one.call].thread]),
                "detail": one.detail,
            }
            for one in episode.violations
        ],
    }
    if threads:
        found["threads"] = _threads(served.codec, episode)
    if served.asked.fields.braid.record:
        found["episode"] = encode_episode(episode)
    return found


def _paths(episode: Episode) -> list[tuple[int, ...]]:
    """[threads] keys from the root."""
    paths: list[tuple[int, ...]] = []
    for thread in episode.threads:
        paths.append(() if thread.parent is None else (*paths[thread.parent], thread.key))
    return paths


def _threads(codec: Codec, episode: Episode) -> list[dict[str, Any]]:
    paths = _paths(episode)
    rows = []
    for thread in episode.threads:
        calls = [call for call in episode.calls if call.thread == thread.index]
        rows.append(
            {
                "thread": thread_name(paths[thread.index]),
                "parent": None if thread.parent is None else thread_name(paths[thread.parent]),
                "outcome": thread.outcome.value,
                "limit": None if thread.limit is None else thread.limit.value,
                "success": thread.success,
                "tokens": sum(len(call.output) for call in calls),
                "calls": [
                    {
                        "call": call.index,
                        "after": [edge.call for edge in call.after],
                        "role": call.role,
                        "text": call_text(codec, call),
                        "tokens": len(call.output),
                        "context_tokens": sum(len(span) for span in call.context),
                        "cached_tokens": call.cached_tokens,
                        "stop": call.stop.value,
                        "started_s": call.started_s,
                        "finished_s": call.finished_s,
                    }
                    for call in calls
                ],
            }
        )
    return rows


def answer_logprobs(codec: Codec, episode: Episode) -> list[dict[str, Any]]:
    """The answer's tokens as a chat reply has them; forced ones, which nobody chose, at log-probability 0."""
    return [
        {"token": piece, "logprob": logprob, "bytes": list(piece.encode()), "top_logprobs": []}
        for span in episode.answer or ()
        for piece, logprob in zip(
            codec.pieces(episode.resolve((span,))), _span_logprobs(episode, span), strict=True
        )
    ]


def _span_logprobs(episode: Episode, span: Span) -> Sequence[float]:
    if isinstance(span, Forced):
        return [0.0] * len(span)
    return episode.calls[span.call].logprobs[span.start : span.stop]


def text_logprobs(codec: Codec, episode: Episode) -> dict[str, Any]:
    """The root's tokens as a completion has them."""
    tokens: list[str] = []
    logprobs: list[float] = []
    for call in episode.calls:
        if call.thread == 0:
            tokens += codec.pieces(call.output)
            logprobs += call.logprobs
    offsets, at = [], 0
    for token in tokens:
        offsets.append(at)
        at += len(token)
    return {"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": None, "text_offset": offsets}

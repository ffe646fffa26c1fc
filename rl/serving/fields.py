"""Every field of the two endpoints, and what becomes of it: applied, ignored, or refused.

A field that is null counts as absent. A field that is in none of these tables is refused as unknown. The
table in docs/serve.md is made from here (`python -m rl.serving.fields`).
"""

import json
from typing import Any, Final

APPLIED: Final[dict[str, str]] = {
    "model": "`NAME`, or `NAME:PROTOCOL`",
    "messages": "system, developer, user and assistant turns with text; the last one is the user's problem",
    "prompt": "the problem, or a list of them; a list of token ids is refused",
    "n": "episodes for each prompt, 1 to 128",
    "seed": "sample i of prompt g has the seed text `SEED/g/i` of an evaluation; left out: random, reported",
    "temperature": "0 to 4; 0 is greedy; 1 when left out",
    "stop": "1 to 4 texts; the root's text ends before the first of them, and all threads are cancelled",
    "max_completion_tokens": "most sampled tokens of an episode, all threads together",
    "max_tokens": "the same; left out: the protocol's own limits (not 16)",
    "reasoning_effort": "threads side by side: none and minimal 1, low 2, medium 4, high 8, xhigh 16",
    "logprobs": "chat: true; completions: 0. Log-probabilities of the sampled tokens",
    "stream": "server-sent events",
    "stream_options": "`include_usage`; `include_obfuscation` must be false",
    "braid": "the extension below",
}
"""Fields that are applied."""
IGNORED: Final[dict[str, str]] = {
    "user": "nothing is kept of it",
    "metadata": "nothing is stored",
    "store": "nothing is stored",
    "safety_identifier": "nothing is kept of it",
    "prompt_cache_key": "prefixes are shared by their tokens",
    "prompt_cache_retention": "the cache is in memory",
    "service_tier": "there is one",
    "parallel_tool_calls": "there are no tools",
}
"""Fields that are accepted and change nothing."""
NEUTRAL: Final[dict[str, tuple[tuple[Any, ...], str]]] = {
    "top_p": ((1,), "log-probabilities are those of the whole distribution"),
    "frequency_penalty": ((0,), "not sampled with"),
    "presence_penalty": ((0,), "not sampled with"),
    "logit_bias": (({},), "not sampled with"),
    "top_logprobs": ((0,), "the engine keeps the sampled token's alone"),
    "response_format": (({"type": "text"},), "sampling is not constrained"),
    "modalities": ((["text"],), "text alone"),
    "tools": (([],), "the model calls none"),
    "tool_choice": (("none", "auto"), "the model calls none"),
    "functions": (([],), "the model calls none"),
    "function_call": (("none", "auto"), "the model calls none"),
    "verbosity": (("medium",), "not trained for"),
    "echo": ((False,), "the reply does not repeat the prompt"),
    "best_of": ((1,), "choose `model: NAME:best_of_n`"),
    "suffix": (("",), "nothing is inserted"),
}
"""Fields that are accepted with a value that asks for nothing, and refused with any other."""
REFUSED: Final[dict[str, str]] = {
    "audio": "text alone",
    "prediction": "nothing is predicted",
    "web_search_options": "the model has no network",
}
"""Fields that are refused with any value."""
CHAT_ONLY: Final = frozenset(
    {
        "messages", "max_completion_tokens", "reasoning_effort", "top_logprobs", "response_format",
        "modalities", "tools", "tool_choice", "functions", "function_call", "verbosity", "audio",
        "prediction", "web_search_options", "metadata", "store", "safety_identifier", "prompt_cache_key",
        "prompt_cache_retention", "service_tier", "parallel_tool_calls",
    }
)  # fmt: skip
"""Fields that `/v1/completions` does not have."""
COMPLETIONS_ONLY: Final = frozenset({"prompt", "echo", "best_of", "suffix"})
"""Fields that `/v1/chat/completions` does not have."""


def fields_table() -> str:
    """The table of docs/serve.md."""
    rows = [(name, "applied", text) for name, text in APPLIED.items()]
    rows += [(name, "ignored", text) for name, text in IGNORED.items()]
    for name, (values, text) in NEUTRAL.items():
        shown = " or ".join(f"`{_shown(value)}`" for value in values)
        rows.append((name, f"{shown} alone", text))
    rows += [(name, "refused", text) for name, text in REFUSED.items()]
    lines = ["| field | endpoint | what becomes of it | how |", "|---|---|---|---|"]
    for name, what, text in rows:
        where = "chat" if name in CHAT_ONLY else "completions" if name in COMPLETIONS_ONLY else "both"
        lines.append(f"| `{name}` | {where} | {what} | {text} |")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


if __name__ == "__main__":
    print(fields_table())

"""`braid data`: what a file of rows holds, before any recipe is written."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from data.errors import ConfigError
from data.tasks.dataset.loading import Loaded, Placed, prompt_of
from data.tasks.dataset.params import DatasetParams
from data.tasks.dataset.task import Dataset
from data.text.codec import Codec, load_codec
from data.text.piece import Piece
from data.text.prompt import Message, Prompt
from rewards.verifiers.base import VerifierParams
from rewards.verifiers.process import VerifierPool
from rewards.verifiers.registry import VERIFIERS, VerifierConfig
from rl.preflight.verifier_check import dataset_rows, listed, passed, try_rows

SUGGESTED = {
    "gsm8k": "gsm8k",
    "math": "math",
    "math_500": "math",
    "aime": "math",
    "dapo": "math",
    "nemo_math": "math",
    "gpqa": "choice",
    "mmlu": "choice",
    "arc": "choice",
    "humaneval": "code",
    "mbpp": "code",
    "livecodebench": "code",
    "ifeval": "ifeval",
}
"""Layout -> the verifier that its data set is usually graded with."""
_IDS_SHOWN = 96
_TEXT_SHOWN = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """Lines of the report, and what is wrong."""

    lines: list[str]
    problem: ConfigError | None


def describe(params: DatasetParams, model: Path | None, verifier: VerifierParams | None) -> Sheet:
    """The report on a data set.

    Args:
        params: sources and layout.
        model: directory whose tokenizer and chat template measure the prompts; None measures characters.
        verifier: tries the gold answers on themselves; None takes the layout's usual one.

    Raises:
        ConfigError: a source or a row cannot be read, or the model's chat template refuses a row.
    """
    splits = Dataset(params).load()
    codec = None if model is None else load_codec(model)
    lines, problem = [], None
    for split, loaded in splits.items():
        lines += [f"{split}: {loaded}", *_rows(loaded, codec)]
        try:
            lines += _gold(loaded, params, verifier or _usual(loaded.layout))
        except ConfigError as error:
            problem = problem or error
    first = splits["train"].problems[0]
    lines += [f"first prompt ({first.where}):", *_prompt(prompt_of(first.problem), codec)]
    return Sheet(lines=lines, problem=problem)


def _usual(layout: str) -> VerifierParams | None:
    """The verifier that rows of a layout are usually graded with, if Braid has it."""
    name = SUGGESTED.get(layout)
    return None if name not in VERIFIERS else TypeAdapter(VerifierConfig).validate_python({"name": name})


def _rows(loaded: Loaded, codec: Codec | None) -> Iterator[str]:
    columns = loaded.problems[0].problem.fields["fields"]
    yield f"  columns     {', '.join(columns)}"
    unit = "characters" if codec is None else "tokens"
    lengths = [(_length(placed, codec), placed.where) for placed in loaded.problems]
    longest, where = max(lengths, key=lambda pair: pair[0])
    middle = statistics.median(length for length, _ in lengths)
    yield f"  prompts     {middle:g} {unit} in the middle, {longest} at most ({where})"
    golds = [placed.problem.fields["gold"] for placed in loaded.problems]
    distinct = len({tuple(gold) for gold in golds})
    alternatives = sum(len(gold) > 1 for gold in golds)
    several = f", {alternatives} rows with alternatives" if alternatives else ""
    yield f"  answers     {sum(map(bool, golds))} rows have one, {distinct} different{several}"


def _length(placed: Placed, codec: Codec | None) -> int:
    prompt = prompt_of(placed.problem)
    if codec is None:
        return len(prompt.text) + sum(len(turn.content) for turn in prompt.history)
    try:
        return len(codec.encode_pieces(chat_pieces(prompt, codec)))
    except ConfigError as error:
        raise ConfigError(f"{placed.where}: {error}") from error


def chat_pieces(prompt: Prompt, codec: Codec) -> list[Piece]:
    """The prompt in the model's chat template, without any protocol's instructions; as it is without one."""
    if codec.has_template:
        return codec.chat([*prompt.history, Message("user", prompt.text)])
    return [Piece("\n".join([*(turn.content for turn in prompt.history), prompt.text]), structure=False)]


def _gold(loaded: Loaded, params: DatasetParams, verifier: VerifierParams | None) -> Iterator[str]:
    if verifier is None:
        names = ", ".join(sorted(VERIFIERS))
        yield f"  gold        not tried; name a verifier: --verifier NAME ({names})"
        return
    task = Dataset(params)
    with VerifierPool(verifier) as pool:
        if refused := pool.wait():
            raise ConfigError(f"verifier {verifier.name!r}: {refused}")
        tried = try_rows(pool, verifier, task, dataset_rows(loaded, task))
    failures = f"; not {listed(tried)}" if tried.failures else ""
    found = f"{passed(verifier, tried)} ({verifier.name}){failures}"
    yield f"  gold        {found}"
    if tried.share < verifier.gold_share:
        raise ConfigError(
            f"{loaded.source}: {found}\n  fix: choose another verifier, or correct these answers"
        )


def _prompt(prompt: Prompt, codec: Codec | None) -> Iterator[str]:
    if codec is None:
        for turn in (*prompt.history, Message("user", prompt.text)):
            yield f"  {turn.role}: {_cut(turn.content)}"
        return
    pieces = chat_pieces(prompt, codec)
    ids = codec.encode_pieces(pieces)
    yield from (f"  {line}" for line in _cut("".join(piece.text for piece in pieces)).splitlines())
    shown = " ".join(
        f"{index}:{text!r}"
        for index, text in zip(ids[:_IDS_SHOWN], codec.pieces(ids[:_IDS_SHOWN]), strict=True)
    )
    yield f"  {len(ids)} ids: {shown}{' ...' if len(ids) > _IDS_SHOWN else ''}"


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_SHOWN else f"{text[:_TEXT_SHOWN]} ... ({len(text)} characters)"

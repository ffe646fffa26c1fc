"""What a model will read: lengths in its own tokens, and the first prompt as ids and text."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from data.errors import ConfigError
from data.tasks.registry import build_task
from rl.config import load_recipe
from rl.config.recipe import Recipe
from rl.preflight.prompts import call_lengths, longest_call, prompts, template
from rollout.protocols import build_protocol
from tests.support.recipe_lab import SMALL
from tests.support.tokenizer_lab import codec_of


def recipe_of(folder: Path, **changes: Any) -> Recipe:
    """The small recipe with a pretrained model; its directory is never opened here."""
    content = {**SMALL, "model": {"kind": "pretrained", "path": ".", "max_length": 512, "tags": "text"}}
    content["stages"] = [{"name": "eval", "kind": "eval", "checkpoints": ["start"]}]
    (folder / "r.yaml").write_text(yaml.safe_dump({**content, **changes}))
    return load_recipe(folder / "r.yaml")


def test_lengths_are_counted_in_the_tokens_of_the_real_problems(tmp_path: Path) -> None:
    recipe, codec = recipe_of(tmp_path), codec_of("gpt")
    (line,) = call_lengths(recipe, codec)
    task = build_task(recipe.task.params)
    problems = task.problems("test", 10, 0)
    longest = max(len(codec.encode(task.prompt(problem).text)) for problem in problems)
    assert longest > len(task.prompt(problems[0]).text.split()), "a word is several tokens here"
    assert f"longest of 10 prompts {longest} tokens" in line.found
    protocol = build_protocol(recipe.protocol, codec)
    needed = max(protocol.needed_length(task.prompt(problem)) for problem in problems)
    assert longest_call(protocol, task, problems, codec)[0] == needed
    assert f"calls up to {needed} of 512 tokens" in line.found


def test_a_context_that_is_one_token_too_short_is_refused(tmp_path: Path) -> None:
    codec = codec_of("gpt")
    (line,) = call_lengths(recipe_of(tmp_path), codec)
    needed = int(line.found.split("calls up to ")[1].split()[0])
    model = {"kind": "pretrained", "path": ".", "tags": "text"}
    list(call_lengths(recipe_of(tmp_path, model={**model, "max_length": needed}), codec))
    short = recipe_of(tmp_path, model={**model, "max_length": needed - 1})
    with pytest.raises(
        ConfigError, match=rf"model.max_length = {needed - 1}: .*stage 'eval' problem '"
    ) as caught:
        list(call_lengths(short, codec))
    assert f"raise it to {needed}" in str(caught.value)


def test_the_first_prompt_is_shown_as_ids_and_as_text(tmp_path: Path) -> None:
    recipe, codec = recipe_of(tmp_path), codec_of("gpt")
    ids, text = prompts(recipe, codec)
    found = [int(index) for index in ids.found.split(" ids: ")[1].split()]
    assert ids.found.startswith(f"{len(found)} ids: ")
    assert codec.decode(found).replace("\n", "\\n") == text.found
    whole = codec.decode(found)
    assert whole.startswith("<|im_start|>user\n") and whole.endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert found == codec.tokenizer.encode(whole, add_special_tokens=False), "the ids of the whole"
    task = build_task(recipe.task.params)
    assert task.prompt(task.problems("test", 10, 0)[0]).text in text.found


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("gpt", "leaves earlier turns of the assistant"),
        ("qwen", "changes earlier turns of the assistant"),
        ("neox", "none"),
    ],
)
def test_what_a_chat_template_does_to_earlier_turns_is_shown(kind: str, found: str) -> None:
    (line,) = template(codec_of(kind))
    assert (line.about, line.found) == ("chat template", found)

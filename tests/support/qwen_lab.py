"""Directories like Qwen3's: the published shapes without weights, or a tiny random model; the tokenizer is a
small one of the same kind. And the shipped recipes for them, with local rows in place of the hub's.
"""

import json
from pathlib import Path
from typing import Any

import yaml
from own_data import gsm8k_rows, write_rows
from tokenizer_lab import ENDS, KINDS, TEMPLATES

from data.steps.formats.files import write_steps
from data.steps.formats.row import StepRow
from rl.config import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
PAPERS = ("grpo_gsm8k", "parallel_r1", "threadweaver", "npr", "pacore", "thinkprm", "spark", "spct", "mrt")
"""Recipes for pretrained models at the size of their papers."""
COUNTDOWN_PAPERS = ("prime_countdown", "pure_countdown")
"""The same on Countdown: what is theirs runs in stages of the shared run `stale`."""
SEARCHES = ("prm_lessons", "tree_search", "early_rejection", "ssr_atts")
"""Recipes that search with a reward model: their searches run in that run too."""
_LAYER = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936, "rms_norm_eps": 1e-6}
_QWEN25_MATH = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584,
    "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
    "intermediate_size": 18_944, "vocab_size": 152_064, "tie_word_embeddings": False,
    "max_position_embeddings": 4096, "rope_theta": 10_000,
}  # fmt: skip
_SMALL = {
    "hidden_size": 1536, "num_attention_heads": 12, "num_key_value_heads": 2, "intermediate_size": 8960,
    "vocab_size": 151_936,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "Qwen3-0.6B": {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
                   "intermediate_size": 3072, "tie_word_embeddings": True, "max_position_embeddings": 40_960},
    "Qwen3-4B-Base": {"hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32,
                      "intermediate_size": 9728, "tie_word_embeddings": True,
                      "max_position_embeddings": 32_768},
    "Qwen3-4B-Instruct-2507": {"hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32,
                               "intermediate_size": 9728, "tie_word_embeddings": True,
                               "max_position_embeddings": 262_144},
    "Qwen3-8B": {"hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32,
                 "intermediate_size": 12_288, "tie_word_embeddings": False,
                 "max_position_embeddings": 40_960},
    "Eurus-2-7B-SFT": _QWEN25_MATH,
    "Qwen2.5-Math-1.5B": _QWEN25_MATH | _SMALL | {"tie_word_embeddings": True},
    "DeepSeek-R1-Distill-Qwen-1.5B": _QWEN25_MATH | _SMALL | {"max_position_embeddings": 131_072},
}  # fmt: skip
"""Sizes in the published config.json of each model that a recipe names."""
TINY: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 32, "intermediate_size": 128, "tie_word_embeddings": True, "max_position_embeddings": 4096,
}  # fmt: skip


def write_tokenizer(folder: Path) -> Any:
    """Write Qwen3's kind of tokenizer with its chat template and ends into a folder. -> the tokenizer."""
    tokenizer = KINDS["qwen"]()
    tokenizer.chat_template = TEMPLATES["qwen"]
    tokenizer.save_pretrained(folder)
    ends = [tokenizer.eos_token_id, *map(tokenizer.convert_tokens_to_ids, ENDS["qwen"])]
    content = {"eos_token_id": ends, "pad_token_id": tokenizer.pad_token_id}
    (folder / "generation_config.json").write_text(json.dumps(content))
    return tokenizer


def without_weights(folder: Path, name: str) -> Path:
    """The directory of a published model, as far as it is known without its weights."""
    path = folder / name
    path.mkdir(parents=True)
    write_tokenizer(path)
    content = {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "dtype": "bfloat16",
        "hidden_act": "silu", "attention_bias": False, "rope_theta": 1_000_000, **_LAYER, **SHAPES[name],
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(content))
    return path


def tiny_model(folder: Path) -> Path:
    """A random Qwen3 of two layers of width 64, whose distributions are far from uniform."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    path = folder / "tiny_qwen3"
    path.mkdir(parents=True)
    tokenizer = write_tokenizer(path)
    config = Qwen3Config(
        vocab_size=len(tokenizer), initializer_range=0.3, eos_token_id=tokenizer.eos_token_id, **TINY
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen3ForCausalLM(config).save_pretrained(path)
    (path / "generation_config.json").unlink(missing_ok=True)
    write_tokenizer(path)
    return path


def with_local_rows(name: str, folder: Path, model: Path) -> dict[str, Any]:
    """A shipped recipe whose hub names are files of rows in the same layout, for a model that is here."""
    folder.mkdir(parents=True, exist_ok=True)
    # Through JSON: stages that a YAML alias makes equal are changed one by one.
    content = json.loads(json.dumps(yaml.safe_load((RECIPES / f"{name}.yaml").read_text())))
    if "base" in content:
        return with_local_rows(Path(content.pop("base")).stem, folder, model) | content
    content["model"]["path"] = str(model)
    tasks = [content["task"], *(stage["task"] for stage in content["stages"] if "task" in stage)]
    for task in tasks:
        for key in ("file", "test_file"):
            if key in task["params"]:
                task["params"][key] = str(_labelled(folder / f"{key}.jsonl"))
        for split in ("train", "validation", "test"):
            if f"{split}_problems" in task:  # Countdown finds out what its numbers reach: 4 ms a problem
                task[f"{split}_problems"] = min(task[f"{split}_problems"], 100)
            if split in task["params"]:
                task["params"][split] = _local(task["params"][split]["hub"], split, folder)
    return content


SMALL_SEARCH: dict[str, Any] = {
    "width": 4, "budgets": {"width": 4}, "chains": 4, "chain_tokens": 96, "step_tokens": 24, "step_end": ".",
    "steps": 4, "expand": 2, "tau": 12, "batch": 2, "expansions": 4, "alpha": 0.5,
    "backups": 1, "restarts": 0,
}  # fmt: skip
"""What a tiny model's searches change; its tokenizer knows words, and its search is written in lines."""


def published_searches() -> dict[str, dict[str, Any]]:
    """Stage -> protocol with a scorer of the recipes that search with a reward model, made small; the first
    of those that are the same then.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in SEARCHES:
        for stage in load_recipe(RECIPES / f"{name}.yaml").stages:
            if stage.protocol is not None and stage.protocol.takes_scorer:
                protocol = stage.protocol.model_dump(mode="json")
                small = {key: value for key, value in SMALL_SEARCH.items() if key in protocol}
                made = {
                    key: value for key, value in protocol.items() if key not in ("framing", "answer")
                } | small
                if made not in found.values():
                    found[f"{name}_{stage.name}"] = made
    return found


def _labelled(path: Path) -> Path:
    """Solutions in steps, every other one with an error in its second step."""
    rows = [
        StepRow(id=f"s{n}", prompt=row["question"], steps=("More.", row["answer"]), labels=(1.0, n % 2))
        for n, row in enumerate(gsm8k_rows(40, seed=7))
    ]
    write_steps(path, rows, "trl")
    return path


def _local(hub: str, split: str, folder: Path) -> dict[str, Any]:
    rows: list[Any] = gsm8k_rows(40, seed=("train", "validation", "test").index(split))
    seen = {row["question"] for row in gsm8k_rows(40)} if split != "train" else set()
    rows = [row for row in rows if row["question"] not in seen]
    if hub.startswith("stepfun-ai/"):
        rows = [
            {
                "conversation": [{"role": "user", "content": row["question"]}],
                "ground_truth": row["answer"].rpartition("#### ")[2],
            }
            for row in rows
        ]
    path = folder / f"{hub.replace('/', '_')}.{split}.jsonl"
    return {"file": str(write_rows(path, rows)), "hub": None, "config": None, "split": None}

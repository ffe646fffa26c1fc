"""Initial weights of a run that begins with a pretrained model: the source with rows for the added tags.

All else stays the source's: number format, keys, `config.json` but for vocab_size, `generation_config.json`.
"""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from data.text.codec import Codec, load_codec
from data.whole_file import write_json
from rl.learner.added_tags import TAG_FILE
from rl.learner.tag_rows import grow, new_tags, set_tag_rows

_KEPT = (torch.float32, torch.bfloat16)
"""Number formats that engines take; others are widened to float32."""


def write_pretrained_start(source: Path, codec: Codec, output: Path) -> str:
    """Write the initial weights into `output`, which holds the run's tokenizer. -> a line for the screen.

    Raises ConfigError when two added tags could not be told apart.
    """
    dtype = AutoConfig.from_pretrained(str(source), trust_remote_code=False).dtype or torch.float32
    model = AutoModelForCausalLM.from_pretrained(
        str(source),
        dtype=dtype if dtype in _KEPT else torch.float32,
        trust_remote_code=False,
        use_safetensors=True,
    )
    base = load_codec(source).tokenizer
    tags = new_tags(base, codec.tokenizer)
    grow(model, codec.size)
    cosine = set_tag_rows(model, base, tags)
    # The source's generation settings are copied: transformers refuses to save some that it once wrote.
    model.generation_config = GenerationConfig()
    model.save_pretrained(str(output), max_shard_size="1TB")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    write_json(output / "config.json", config | {"vocab_size": model.config.get_text_config().vocab_size})
    (output / "generation_config.json").unlink(missing_ok=True)
    if (source / "generation_config.json").is_file():
        shutil.copyfile(source / "generation_config.json", output / "generation_config.json")
    found = f"start: {sum(parameter.numel() for parameter in model.parameters()):,} weights"
    if tags:
        write_json(output / TAG_FILE, tags, sort_keys=False)
        found += f"; {len(tags)} tags added, largest cosine of two of their rows {cosine:.3f}"
    return found

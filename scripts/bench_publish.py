"""What new weights cost: a file of so many MB from a learner's memory into a serving engine, calls in flight.

    python scripts/bench_publish.py --mb 350 --json publish.json

Turns of two things in one run, on a random model of that size (float32):

    copy       the file, byte for byte, to another file in shared memory
    publish    tensors written to a file, its checksum, then `publish` of the real engine: check, pause, load

Beside them one call is being sampled, token by token, and the longest gap between two of its tokens is taken.

The file: mb, copy_s, write_s, send_s, pause_s, gap_s (medians), step_s (the usual gap), publish_over_copy,
pause_beyond_copy_ms (gap_s - step_s - copy_s).
"""

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from data.checksum import file_checksum
from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import VllmSettings

_CONTEXT = 64
_LONG = 100_000


def make_model(folder: Path, mb: float) -> Any:
    """A random Qwen3 of about that size, tied, saved. -> its tensors, as a learner holds them."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    layers, hidden = 4, 512
    per_layer = 4 * hidden * hidden + 3 * hidden * 3 * hidden
    vocabulary = max(256, int((mb * 2**20 / 4 - layers * per_layer) / hidden))
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary, hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers,
            num_attention_heads=8, num_key_value_heads=8, head_dim=64, max_position_embeddings=2 * _LONG,
            tie_word_embeddings=True, eos_token_id=None,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    tensors = {name: value.detach() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    return tensors


class Listener:
    """One endless call, and when each of its tokens came."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        self.times: list[float] = []
        self._task = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        from vllm import SamplingParams
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        number = 0
        while True:
            number += 1
            sampling = SamplingParams(
                temperature=1.0, seed=1, max_tokens=400, ignore_eos=True, detokenize=False,
                output_kind=RequestOutputKind.DELTA,
            )  # fmt: skip
            prompt = tokens_input(list(range(3, 3 + _CONTEXT)))
            async for _ in self._engine._llm.generate(prompt, sampling, f"listener/{number}"):
                self.times.append(time.monotonic())

    def gaps(self, begin: float, end: float) -> list[float]:
        """Between tokens, of which the later came in this time or was the first after it."""
        pairs = list(zip(self.times, self.times[1:], strict=False))
        return [b - a for a, b in pairs if b >= begin and a <= end]

    def stop(self) -> None:
        """No more tokens are wanted."""
        self._task.cancel()


async def measure(mb: float, repeats: int, folder: Path) -> dict[str, Any]:
    """Measure. -> the JSON document."""
    from safetensors.torch import save_file

    tensors = make_model(folder / "model", mb)
    settings = VllmSettings(model_dir=folder / "model", max_length=1024, kv_cache_gb=0.5, max_live_calls=8)
    engine = await VllmEngine.start(settings)
    turns: dict[str, list[float]] = {name: [] for name in ("copy", "write", "send", "pause", "gap", "step")}
    try:
        listener = Listener(engine)
        await asyncio.sleep(3)
        for version in range(1, repeats + 2):
            path = folder / f"{version}.safetensors"
            began = time.monotonic()
            await asyncio.to_thread(shutil.copyfile, folder / "model" / "model.safetensors", folder / "copy")
            copied = time.monotonic()
            (folder / "copy").unlink()
            await asyncio.sleep(1)
            quiet = listener.gaps(time.monotonic() - 0.8, time.monotonic())
            writing = time.monotonic()
            await asyncio.to_thread(save_file, tensors, str(path))
            checksum = await asyncio.to_thread(file_checksum, path)
            sending = time.monotonic()
            report = await engine.publish(path, version, checksum)
            sent = time.monotonic()
            await asyncio.sleep(1)
            path.unlink()
            if version == 1:  # the first one warms up
                continue
            for name, value in (
                ("copy", copied - began), ("write", sending - writing), ("send", sent - sending),
                ("pause", report.pause_s), ("gap", max(listener.gaps(sending, sent))),
                ("step", statistics.median(quiet)),
            ):  # fmt: skip
                turns[name].append(value)
        listener.stop()
    finally:
        engine.shutdown()
    medians = {f"{name}_s": statistics.median(values) for name, values in turns.items()}
    publish = medians["write_s"] + medians["send_s"]
    return {
        "mb": (folder / "model" / "model.safetensors").stat().st_size / 2**20,
        "repeats": repeats,
        **medians,
        "publish_over_copy": publish / medians["copy_s"],
        "pause_beyond_copy_ms": 1000 * (medians["gap_s"] - medians["step_s"] - medians["copy_s"]),
    }


def main() -> int:
    """Run the benchmark. -> exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mb", type=float, default=350.0, help="size of the weights (default 350)")
    parser.add_argument("--repeats", type=int, default=7, help="turns (default 7)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        document = asyncio.run(measure(given.mb, given.repeats, Path(folder)))
    print(json.dumps(document, indent=2))
    if given.json:
        given.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Checks of a pretrained model's files, before an engine or a learner is started."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""Bytes of one number; other kinds (8-bit floats, packed numbers) are not compared with their shape."""
_PROBE_S = 600.0
_SHOWN = 3
"""Most names of weights in a message."""


def config_problem(config: Mapping[str, Any]) -> str | None:
    """Why no model can be built from this config.json; None when it is valid."""
    if config.get("auto_map"):
        return "config.json has auto_map: its code comes with the model, and is never run"
    for key in ("num_hidden_layers", "num_attention_heads", "hidden_size"):
        value = config[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            return f"config.json has {key} = {value!r}, which must be a whole number of at least 1"
    return None


def weights_problem(directory: Path) -> str | None:
    """Why the safetensors files cannot be valid, or None; only their headers are read."""
    for file in sorted(directory.glob("*.safetensors")):
        try:
            problem = _header_problem(file)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            problem = f"its header cannot be read ({error})"
        if problem is not None:
            return f"{file.name}: {problem}"
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        try:
            parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"{index.name} cannot be read ({error})"
        gone = [name for name in parts if not (directory / str(name)).is_file()]
        if gone:
            return f"{index.name} names {gone[0]}, which is missing"
    return None


def _header_problem(file: Path) -> str | None:
    """Check one file: length of the header (8 bytes), header (JSON), then the numbers without gaps."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        if length > size - 8:
            return f"is cut off: a header of {length} bytes in a file of {size}"
        header = json.loads(opened.read(length))
    entries = [entry for name, entry in header.items() if name != "__metadata__"]
    expected = 0
    for entry in sorted(entries, key=lambda entry: tuple(entry["data_offsets"])):
        start, stop = entry["data_offsets"]
        needed = prod(entry["shape"]) * _SIZES.get(entry["dtype"], 0)
        if start != expected or stop < start or (needed and stop - start != needed):
            return "its header contradicts itself: shapes and offsets of the weights do not fit together"
        expected = stop
    if 8 + length + expected != size:
        return f"is cut off or damaged: {8 + length + expected} bytes by its header, but {size} on disk"
    return None


def loading_problem(directory: Path) -> str | None:
    """Why transformers cannot load tokenizer and weights completely; tried in a separate process.

    It would silently draw missing weights at random.
    """
    command = [sys.executable, "-m", "rl.preflight.model_probe", str(directory)]
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    variables["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_S, env=variables, cwd=directory
        )
    except subprocess.TimeoutExpired:
        return f"could not be loaded within {_PROBE_S:.0f} s"
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        return f"transformers cannot load it: {lines[-1].strip()[:300]}"
    report = json.loads(done.stdout.splitlines()[-1])
    if report["missing"]:
        return f"its files lack {_listed(report['missing'])}, which would be drawn at random"
    if report["mismatched"]:
        return f"{_listed(report['mismatched'])} have another shape than config.json gives them"
    return None


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more weights" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

"""Transfer of the learner's and the driver's files to engines: by path on this node, else through Ray."""

import itertools
import shutil
import tempfile
from pathlib import Path

import ray

from rollout.actor import read_bytes, read_folder
from rollout.engines.restarting import Weights


class WeightTransfer:
    """A directory for published weights, and copies in Ray's object store for engines on other nodes."""

    def __init__(self, model_dir: Path, directory: Path | None = None) -> None:
        """model_dir: what engines start from. directory: visible to the learner and to the driver; default:
        shared memory where the system has it, else the system's temporary directory.
        """
        self._model_dir = model_dir
        shared = Path("/dev/shm")
        parent = directory or (shared if shared.is_dir() else None)
        self._directory = Path(tempfile.mkdtemp(prefix="braid-", dir=parent))
        self._files = itertools.count()
        self._content: tuple[Weights, ray.ObjectRef] | None = None
        """The weights published last, and their bytes."""
        self._start_files: ray.ObjectRef | None = None

    def new_file(self) -> Path:
        """A path for the next weights. No name is used twice: an engine may still read the old file."""
        return self._directory / f"{next(self._files)}.safetensors"

    def content(self, weights: Weights) -> "ray.ObjectRef":
        """The bytes of a weights file in the object store."""
        if self._content is None or self._content[0] is not weights:
            self._content = weights, ray.put(read_bytes(weights.path))
        return self._content[1]

    def start_files(self) -> "ray.ObjectRef":
        """The files of the model directory in the object store."""
        if self._start_files is None:
            self._start_files = ray.put(read_folder(self._model_dir))
        return self._start_files

    def remove_all_but(self, path: Path) -> None:
        """Remove weights that no engine needs any more."""
        for old in self._directory.iterdir():
            if old != path:
                old.unlink()

    def close(self) -> None:
        """Remove the directory and its files."""
        shutil.rmtree(self._directory, ignore_errors=True)

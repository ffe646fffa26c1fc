"""The other end of `rl.preflight.deep_check`: reads its parent's pickled recipe, and writes it as JSON."""

import pickle
import sys

from data.extensions import files_to_load
from rl.config.extensions import load_extensions

if __name__ == "__main__":
    load_extensions(files_to_load())
    sys.stdout.write(pickle.load(sys.stdin.buffer).model_dump_json())

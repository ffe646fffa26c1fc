"""Test of forests on a small copy of a pretrained model, in a separate process."""

import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rl.learner.attention.support import Exactness


def exactness(directory: Path, max_length: int) -> Exactness:
    """Test forests on a small copy of the model in `directory`, in a separate process, so that this one does
    not load torch.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        trial = pool.submit(_exactness, directory, max_length)
        failure = trial.exception()
    if failure is None:
        return trial.result()
    # Any model class is called there, in a way that its authors did not plan for.
    reason = f"its forward pass does not take a forest ({type(failure).__name__}: {failure})"
    return Exactness(difference=math.inf, reason=reason, key="model_type", dropout=())


def _exactness(directory: Path, max_length: int) -> Exactness:
    from rl.learner.attention.exactness import check_exactness

    return check_exactness(directory, max_length)

"""Beginning of a core process: vLLM is imported without the garbage collector.

A core process loads this module before vLLM (`vllm_compat.start_cores_fast`), so vLLM must not be imported at
its top.
"""

import gc
from typing import Any

gc.disable()


def run_core(*args: Any, **kwargs: Any) -> None:
    """Run a core process to its end; arguments as for vLLM's `EngineCoreProc.run_engine_core`."""
    from vllm.v1.engine.core import EngineCoreProc

    gc.freeze()  # what has been imported lives for ever; vLLM collects five times while it loads a model
    gc.enable()
    EngineCoreProc.run_engine_core(*args, **kwargs)

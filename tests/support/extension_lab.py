"""Extensions of the docs as files, and registries that are as before afterwards."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data import extensions
from data.tasks.dataset.layouts import LAYOUTS
from data.tasks.registry import TASKS
from data.text.answer_format import ANSWER_FORMS
from rewards.compose import TERM_PARAMS, TERMS
from rewards.verifiers.registry import VERIFIER_PARAMS, VERIFIERS
from rl.config.extensions import INSTALLED
from rl.config.task import SECTIONS
from rollout.protocols import PROTOCOLS

ROOT = Path(__file__).parents[2]
_REGISTRIES: tuple[dict[str, Any], ...] = (
    PROTOCOLS, TASKS, SECTIONS, TERMS, TERM_PARAMS, VERIFIERS, VERIFIER_PARAMS, LAYOUTS, ANSWER_FORMS,
    INSTALLED, extensions._LOADED,
)  # fmt: skip
PROTOCOL_REGISTER = """

def register(registry):
    registry.protocol(SecondOpinion)
"""


def doubles(folder: Path) -> Path:
    """The extension of docs/extensions.md."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extensions.md").read_text(), flags=re.DOTALL)
    return _write(folder / "doubles.py", code)


def second_opinion(folder: Path) -> Path:
    """The protocol of CONTRIBUTING.md as an extension."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[0]
    return _write(folder / "second_opinion.py", code + PROTOCOL_REGISTER)


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@contextmanager
def restored_registries() -> Iterator[None]:
    """Whatever extensions add meanwhile is gone afterwards."""
    before, variable = [dict(registry) for registry in _REGISTRIES], os.environ.get(extensions.VARIABLE)
    try:
        yield
    finally:
        for registry, content in zip(_REGISTRIES, before, strict=True):
            registry.clear()
            registry.update(content)
        for name in [name for name in sys.modules if name.startswith("braid_extension_")]:
            del sys.modules[name]
        os.environ.pop(extensions.VARIABLE, None)
        if variable is not None:
            os.environ[extensions.VARIABLE] = variable

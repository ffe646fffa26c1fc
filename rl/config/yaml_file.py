"""YAML as people expect it: SafeLoader, but a key twice is an error and 3e-4 is a number."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from data.errors import ConfigError

_FLOAT = re.compile(
    r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
"""YAML 1.2's floats. PyYAML speaks 1.1, in which 3e-4 (no dot) is a string."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                message = f"the key {key.value!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+.0123456789")
)


def parse_value(text: str) -> Any:
    """One YAML value, as `--set` gives it. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping a YAML (or JSON) file holds. Raises ConfigError naming file, line and remedy."""
    try:
        value = parse_value(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is no such file\n  fix: check the path; {_neighbours(path)}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})\n  fix: name a YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark is not None else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{path}:{line} {problem}\n  fix: correct the YAML there") from error
    if not isinstance(value, dict):
        raise ConfigError(
            f"{path}: holds {type(value).__name__}, not keys and values\n  fix: start from a shipped recipe"
        )
    return value


def _neighbours(path: Path) -> str:
    names = sorted(other.name for other in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    return f"beside it there are {', '.join(names)}" if names else "its folder has no recipes"

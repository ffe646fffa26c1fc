"""YAML reader: SafeLoader, but a repeated key is an error and 3e-4 is a number.

Input that would take minutes or all memory is refused first: see `_ensure_small`.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from data.errors import ConfigError

_MOST_CHARACTERS = 1_000_000
_MOST_VALUES = 100_000
"""Most scalars, lists and mappings in a file, with every alias written out."""
_MOST_NESTED = 50
_FLOAT = re.compile(
    r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
"""YAML 1.2's floats. PyYAML reads YAML 1.1, in which 3e-4 (no dot) is a string."""


class _Loader(yaml.SafeLoader):
    """SafeLoader whose mappings have text keys, each once, and whose input is not nested deeply."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # Checked while reading: PyYAML takes seconds for thousands of brackets.
        if self._depth > _MOST_NESTED:
            raise yaml.MarkedYAMLError(
                problem=f"is nested more than {_MOST_NESTED} deep", problem_mark=self.get_mark()
            )
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _problem("a key must be text, not a list or a mapping", key)
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise _problem(f"the key {key.value!r} is not text: put it in quotes", key)
            if key.value in seen:
                raise _problem(f"the key {key.value!r} is there twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+.0123456789")
)


def parse_value(text: str) -> Any:
    """Parse one YAML value from `--set`. Raises yaml.YAMLError."""
    if len(text) > _MOST_CHARACTERS:
        raise yaml.MarkedYAMLError(problem=f"is longer than {_MOST_CHARACTERS} characters")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _ensure_small(node, {}, ())
        return loader.construct_document(node)
    except RecursionError as error:
        raise yaml.MarkedYAMLError(problem=f"is nested more than {_MOST_NESTED} deep") from error
    except ValueError as error:  # a number of thousands of digits, a date that is none
        raise yaml.MarkedYAMLError(problem=str(error)) from error
    finally:
        loader.dispose()


def problem_of(error: yaml.YAMLError) -> str:
    """Error text such as `line 3: ...`; the line is left out where unknown."""
    mark = getattr(error, "problem_mark", None)
    line = f"line {mark.line + 1}: " if mark is not None else ""
    return line + str(getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML")


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping a YAML (or JSON) file holds. Raises ConfigError naming file, line and remedy."""
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: is not a regular file\n  fix: name a YAML file")
        with path.open(encoding="utf-8") as file:
            value = parse_value(file.read(_MOST_CHARACTERS + 1))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is no such file\n  fix: check the path; {_neighbours(path)}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})\n  fix: name a YAML file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {problem_of(error)}\n  fix: correct the YAML there") from error
    if not isinstance(value, dict):
        raise ConfigError(
            f"{path}: holds {type(value).__name__}, not keys and values\n  fix: start from a shipped recipe"
        )
    return value


def _problem(text: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark)


def _ensure_small(node: yaml.Node, sizes: dict[yaml.Node, int], above: tuple[yaml.Node, ...]) -> int:
    """Return the number of values below a node with aliases written out.

    A few aliases of aliases stand for billions of values, an alias to an enclosing node for infinitely many.
    Raises yaml.YAMLError.
    """
    if node in above:
        raise _problem("an alias (*) contains itself", node)
    if len(above) > _MOST_NESTED:
        raise _problem(f"is nested more than {_MOST_NESTED} deep", node)
    if node not in sizes:
        size, inside = 1, (*above, node)
        if isinstance(node, yaml.MappingNode):
            size += sum(_ensure_small(part, sizes, inside) for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            size += sum(_ensure_small(part, sizes, inside) for part in node.value)
        if size > _MOST_VALUES:
            raise _problem(
                f"stands for more than {_MOST_VALUES} values with its aliases (*) written out", node
            )
        sizes[node] = size
    return sizes[node]


def _neighbours(path: Path) -> str:
    names = sorted(other.name for other in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    return f"beside it there are {', '.join(names)}" if names else "its folder has no recipes"

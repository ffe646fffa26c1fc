"""The two ends of the line between the tests and the program.

The tests hold `Remote` objects for what lives in the program's process. A value that both sides could make
crosses as a value; for anything else the tests ask. Whatever is compared with a value of the tests is
compared here, on the tests' side: the program never learns what was expected, and its answer to "are these
equal" is not asked for.
"""

from __future__ import annotations

import builtins
import operator
import sys

from rewards.sandbox.inside.values import decode, encode
from rewards.sandbox.inside.wire import Closed, framed, read_bytes, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

_MUTABLE = (list, dict, set)
_OPERATORS = "add sub mul truediv floordiv mod pow matmul and_ or_ xor lshift rshift neg pos abs invert"
_COMPARISONS = ("eq", "lt", "le", "gt", "ge")
_DEEPEST = 50
"""Calls of each other's functions that may be open at once."""


class Peer:
    """One end: asks the other side, and answers it while waiting."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads, self._writes = reads, writes
        self._objects: list[object] = []
        self._depth = 0

    def ask(self, *request: object) -> Any:
        """Send a request and give the other side's value.

        Raises:
            Closed: the other side ended or talks nonsense.
            Exception: what the other side raised, as `raised` makes it.
        """
        self._depth += 1
        try:
            if self._depth > _DEEPEST:
                raise Closed("too many calls inside each other")
            self._send(["ask", *request])
            while True:
                kind, *rest = self._receive()
                if kind == "ask":
                    self._answer(rest)
                elif kind == "value" and rest:
                    return rest[0]
                else:
                    raise self.raised(*(*rest, "", "", "")[:3])
        finally:
            self._depth -= 1

    def serve(self) -> None:
        """Answer requests until the other side ends.

        Raises:
            Closed: it has.
        """
        while True:
            kind, *rest = self._receive()
            if kind != "ask":
                raise Closed("a reply to nothing")
            self._answer(rest)

    def _send(self, message: object) -> None:
        write_all(self._writes, framed(encode(message, self.export)))

    def _receive(self) -> list[Any]:
        try:
            message = decode(read_bytes(self._reads), self.import_)
        except ValueError as error:
            raise Closed(str(error)) from None
        if not isinstance(message, list) or not message or message[0] not in ("ask", "value", "raise"):
            raise Closed("no message")
        return message

    def _answer(self, request: list[Any]) -> None:
        try:
            reply = encode(["value", self.handle(request)], self.export)
        except Closed:
            raise
        except BaseException as error:  # whatever the program raises is its result
            reply = encode(["raise", *_described(error)])
        write_all(self._writes, framed(reply))

    def export(self, value: object) -> list[Any]:
        """A list that stands for an object of this side."""
        raise NotImplementedError

    def import_(self, tree: list[Any]) -> object:
        """What this side sees for an object of the other; raises ValueError."""
        raise NotImplementedError

    def handle(self, request: list[Any]) -> object:
        """Do what is asked; gives the value to reply."""
        raise NotImplementedError

    def raised(self, name: object, base: object, text: object) -> BaseException:
        """The exception to raise here for one that was raised over there."""
        raise NotImplementedError

    def keep(self, value: object) -> int:
        """Keep an object for the other side; gives its number."""
        self._objects.append(value)
        return len(self._objects) - 1

    def kept(self, number: object) -> Any:
        """The object of that number.

        Raises:
            ValueError: there is none.
        """
        if not isinstance(number, int) or not 0 <= number < len(self._objects):
            raise ValueError("no such object")
        return self._objects[number]


def _described(error: BaseException) -> list[str]:
    """[name of its class, nearest built-in class, its text]; the text of a hostile `__str__` may be anything,
    or raise.
    """
    base = next((kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"), "Exception")
    try:
        text = str(error)[:500]
    except Exception:
        text = ""
    return [type(error).__name__, base, text]


class ProgramSide(Peer):
    """The end in the program's process. The program can do with it what it likes, and gains nothing by it."""

    def export(self, value: object) -> list[Any]:
        """A list that stands for an object of the program."""
        if isinstance(value, Stand):
            return ["yours", value.number]
        if isinstance(value, type(sys)):
            return ["module", value.__name__]
        if isinstance(value, type) and issubclass(value, Exception):
            base = next(kind.__name__ for kind in value.__mro__ if kind.__module__ == "builtins")
            return ["exception", self.keep(value), value.__name__, base]
        return ["mine", self.keep(value)]

    def import_(self, tree: list[Any]) -> object:
        """The object, or the stand-in for a function of the tests, that a list stands for."""
        if tree[0] == "yours":
            return self.kept(tree[1])
        if tree[0] == "mine":
            return Stand(self, tree[1])
        raise ValueError(f"unknown kind of value {tree[0]}")

    def handle(self, request: list[Any]) -> object:
        """Do what the tests ask, on the program's own objects; gives the result and the arguments that it
        changed.
        """
        verb, *values = request
        given = _args(values)
        before = [encode(value, self.export) if type(value) in _MUTABLE else None for value in given]
        result = self._do(verb, values)
        changed = [
            [place, value]
            for place, (value, old) in enumerate(zip(given, before, strict=True))
            if old is not None and encode(value, self.export) != old
        ]
        return [result, changed]

    def _do(self, verb: str, values: list[Any]) -> object:
        if verb == "call":
            function, args, keywords = values
            return function(*args, **keywords)
        if verb == "operator":
            return getattr(operator, values[0])(*values[1])
        if verb == "next":
            return next(values[0])
        simple: Mapping[str, Callable[..., object]] = {
            "get": getattr,
            "set": setattr,
            "item": operator.getitem,
            "put": operator.setitem,
            "iterate": iter,
            "length": len,
            "truth": bool,
            "text": str,
            "repr": repr,
            "is_a": isinstance,
        }
        return simple[verb](*values)

    def raised(self, name: object, base: object, text: object) -> BaseException:
        """An error of the tests' own function, raised again in the program that called it."""
        return _exception(str(name), base)(text)


def _args(values: list[Any]) -> list[Any]:
    """The positional arguments of a call, when it is one."""
    return list(values[1]) if len(values) == 3 and isinstance(values[1], tuple) else []


class Stand:
    """A function of the tests, as the program sees it: it can be called, and that is all."""

    def __init__(self, side: ProgramSide, number: int) -> None:
        self.side = side
        self.number = number

    def __call__(self, *args: object) -> Any:
        return self.side.ask("call", self, args)


class TestSide(Peer):
    """The end in the tests' process. It believes nothing of what it reads."""

    __test__ = False  # pytest would take it for a class of tests

    def __init__(self, reads: int, writes: int) -> None:
        super().__init__(reads, writes)
        self._exceptions: dict[str, type[Exception]] = {}

    def export(self, value: object) -> list[Any]:
        """A list that stands for an object of the tests; only callables go, and can only be called."""
        if isinstance(value, Remote):
            return ["yours", object.__getattribute__(value, "_number")]
        if callable(value):
            return ["mine", self.keep(value)]
        raise TypeError(f"a test gives the program an object of type {type(value).__name__}")

    def import_(self, tree: list[Any]) -> object:
        """What the tests see for an object of the program."""
        kind = tree[0]
        if kind == "mine" and len(tree) == 2 and isinstance(tree[1], int):
            return Remote(self, tree[1])
        if kind == "yours" and len(tree) == 2:
            return self.kept(tree[1])
        if kind == "module" and len(tree) == 2 and tree[1] in sys.stdlib_module_names:
            return __import__(tree[1])
        if kind == "exception" and len(tree) == 4 and isinstance(tree[2], str):
            return self._exceptions.setdefault(tree[2], _exception(tree[2], tree[3]))
        raise ValueError("no value")

    def request(self, verb: str, *values: object) -> Any:
        """Ask the program; arguments that it changed in place are changed here as well."""
        reply = self.ask(verb, *values)
        try:
            result, changed = reply
            for place, value in changed:
                _overwrite(_args(list(values))[place], value)
        except (ValueError, TypeError, LookupError) as error:
            raise Closed(f"no reply: {error}") from None
        return result

    def handle(self, request: list[Any]) -> object:
        """Call a function that the tests gave to the program; nothing else is ever done for it."""
        if len(request) != 3 or request[0] != "call" or not isinstance(request[2], tuple):
            raise Closed("only calls are answered")
        if isinstance(request[1], Remote) or not callable(request[1]):
            raise Closed("no function of the tests")
        return request[1](*request[2])

    def raised(self, name: object, base: object, text: object) -> BaseException:
        """The program's exception: of the built-in class of that name, marked as the program's."""
        names = (name, base)
        known = next(
            (self._exceptions[n] for n in names if isinstance(n, str) and n in self._exceptions), None
        )
        try:
            error = (known or _exception(str(name), base))(text)
        except TypeError:  # UnicodeDecodeError, for one, wants five arguments
            error = RuntimeError(text)
        error.__dict__["program"] = str(name)[:80]
        return error


def _exception(name: str, base: object) -> type[Exception]:
    """A class for the tests' side: the built-in one itself where the names agree, else a child of it."""
    found = getattr(builtins, base, None) if isinstance(base, str) else None
    kind = found if isinstance(found, type) and issubclass(found, Exception) else RuntimeError
    return kind if kind.__name__ == name else type(name[:80], (kind,), {})


def _overwrite(target: Any, value: Any) -> None:
    if type(target) is not type(value):
        raise ValueError("an argument changed its type")
    target.clear()
    target.extend(value) if isinstance(target, list) else target.update(value)


class Remote:
    """An object of the program, as the tests see it."""

    __slots__ = ("_number", "_side")

    def __init__(self, side: TestSide, number: int) -> None:
        object.__setattr__(self, "_side", side)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: object, **keywords: object) -> Any:
        return self._side.request("call", self, args, keywords)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__name__", "__doc__", "__dict__"):
            raise AttributeError(name)
        return self._side.request("get", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._side.request("set", self, name, value)

    def __getitem__(self, key: object) -> Any:
        return self._side.request("item", self, key)

    def __setitem__(self, key: object, value: object) -> None:
        self._side.request("put", self, key, value)

    def __iter__(self) -> Iterator[Any]:
        source = self._side.request("iterate", self)
        return source if isinstance(source, Remote) else iter(source)

    def __next__(self) -> Any:
        return self._side.request("next", self)

    def __len__(self) -> int:
        return int(self._side.request("length", self))

    def __bool__(self) -> bool:
        return bool(self._side.request("truth", self))

    def __str__(self) -> str:
        return str(self._side.request("text", self))

    def __repr__(self) -> str:
        return str(self._side.request("repr", self))

    def __instancecheck__(self, value: object) -> bool:
        return isinstance(value, Remote) and bool(self._side.request("is_a", value, self))

    def __hash__(self) -> int:
        return hash((Remote, self._number))


def _operator(name: str, swapped: bool) -> Callable[..., Any]:
    def operate(self: Remote, *others: object) -> Any:
        values = (*others, self) if swapped else (self, *others)
        return self._side.request("operator", name, values)

    return operate


def _comparison(name: str) -> Callable[..., Any]:
    def compare(self: Remote, other: object) -> Any:
        if not isinstance(other, Remote):
            # == gives False then, < raises TypeError: the program must not judge its own result.
            return NotImplemented
        if name == "eq" and self._number == other._number:
            return True
        return bool(self._side.request("operator", name, (self, other)))

    return compare


def _equip(names: Sequence[str]) -> None:
    for name in names:
        bare = name.rstrip("_")
        setattr(Remote, f"__{bare}__", _operator(name, swapped=False))
        if bare not in ("neg", "pos", "abs", "invert"):
            setattr(Remote, f"__r{bare}__", _operator(name, swapped=True))
    for name in _COMPARISONS:
        setattr(Remote, f"__{name}__", _comparison(name))


_equip(_OPERATORS.split())

"""Start inside the box: give up rights, run the program in a process of its own, test it from another.

Three processes: the box's first (bubblewrap), the tests' process (this one) and the program's. Programs are
forked off before the tests are read, so that no copy of them is in the program's memory; the tests' process
cannot be traced or read by others.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found] # `signal` itself imports enum, 5 ms
import atexit
import builtins
import ctypes
import os
import resource
import sys
import time
from types import CodeType, ModuleType

from rewards.sandbox.inside.filter import install
from rewards.sandbox.inside.peer import ProgramSide, Remote, TestSide
from rewards.sandbox.inside.wire import Closed, read_message, write_all, write_message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_SET_DEATH_SIGNAL, _SET_DUMPABLE, _SET_SUBREAPER, _SET_NO_NEW_PRIVILEGES = 1, 4, 36, 38
_MIB = 2**20
_HEARS, _SAYS = 3, 4  # the program's end of the line
_RESULTS = 9  # the tests' line to the host
NAMESPACE = 0
"""Number of the program's own namespace among the objects that it keeps."""


class Settings:
    """Limits of the program's process; `Limits` of the host says what each means."""

    def __init__(
        self, user: int | None, boxed: bool, seconds: int, memory_mb: int, processes: int, output_mb: int
    ) -> None:
        self.user, self.boxed = user, boxed
        self.seconds, self.memory_mb = seconds, memory_mb
        self.processes, self.output_mb = processes, output_mb


def main() -> None:
    """Do one job, read from standard input; every message is described where it is sent."""
    settings = Settings(**read_message(0))
    os.dup2(1, _RESULTS, inheritable=False)
    os.dup2(os.open("/dev/null", os.O_WRONLY), 1)  # a test that prints must not print into the results
    _give_up_rights(settings)
    write_message(_RESULTS, ["ready"])
    mode, source, *rest = read_message(0)
    try:
        if mode == "stdin":
            _run_with_inputs(settings, source)
        elif mode == "calls":
            _run_calls(settings, source, *rest)
        else:
            _run_tests(settings, source)
        write_message(_RESULTS, ["done"])
        read_message(0)  # whoever started the box ends it, with everybody in it
    except Closed:
        pass  # the host has seen enough


def _give_up_rights(settings: Settings) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if settings.user is not None:
        os.setgroups([])
        os.setresgid(settings.user, settings.user, settings.user)
        os.setresuid(settings.user, settings.user, settings.user)
    options = [(_SET_NO_NEW_PRIVILEGES, 1), (_SET_DUMPABLE, 0), (_SET_DEATH_SIGNAL, signal.SIGKILL)]
    if not settings.boxed:
        options.append((_SET_SUBREAPER, 1))  # so that the host finds every descendant below this process
    for option, value in options:
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {option}")
    install()
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_MSGQUEUE):
        resource.setrlimit(limit, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (settings.memory_mb * _MIB,) * 2)


def _limit(settings: Settings) -> None:
    """Limits of the program's process and its children, hard ones."""
    seconds = settings.seconds + 1
    # The tests' process and, in a user namespace, bubblewrap's own count as well.
    processes = settings.processes + (3 if settings.boxed else _processes_of_user())
    for limit, soft, hard in (
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_NPROC, processes, processes),
        (resource.RLIMIT_NOFILE, 64, 64),
        (resource.RLIMIT_FSIZE, settings.output_mb * _MIB, settings.output_mb * _MIB),
    ):
        resource.setrlimit(limit, (soft, hard))
    signal.signal(
        signal.SIGXFSZ, signal.SIG_DFL
    )  # Python ignores it; here it ends a program that writes for ever
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def _processes_of_user() -> int:
    mine = os.getuid()
    count = 0
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                count += os.stat(f"/proc/{name}").st_uid == mine
            except OSError:
                continue
    return count


class Program:
    """A process of the program, and this end of the line to it."""

    def __init__(self, settings: Settings, source: str, *, stdin: str | None = None) -> None:
        self.settings = settings
        self._out, self._err = os.memfd_create("stdout"), os.memfd_create("stderr")
        given = os.memfd_create("stdin")
        write_all(given, (stdin or "").encode("utf-8", "replace"))
        os.lseek(given, 0, os.SEEK_SET)
        self._said, says = os.pipe()
        hears, self._asks = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            line = os.dup(hears), os.dup(says)
            for place, descriptor in enumerate((given, self._out, self._err, *line)):
                os.dup2(descriptor, place, inheritable=place < 3)
            os.closerange(5, 4096)
            _become_program(settings, source, serve=stdin is None)
        for descriptor in (given, says, hears):
            os.close(descriptor)
        self.side = TestSide(self._said, self._asks)

    def names(self) -> list[str]:
        """Names that the program defines, once it has run.

        Raises:
            Failed: it does not compile, or raised.
            Closed: it ended, or sends what is no message.
        """
        kind, *rest = read_message(self._said)
        if kind == "names" and rest and all(isinstance(name, str) for name in rest[0]):
            return list(rest[0])
        raise Failed(*_failure(kind, *rest))

    def wait(self) -> list[str] | None:
        """Wait for the end of a program that reads standard input; [ending, what happened] unless it is a
        good one.
        """
        _, status = os.waitpid(self.pid, 0)
        os.set_blocking(self._said, False)  # a child that it left may hold the line open
        try:
            said = os.read(self._said, 4096).decode("utf-8", "replace")
        except BlockingIOError:
            said = ""
        if (failed := self._judge(status)) is None:
            return None
        kind, _, text = said.partition("\n")
        return [kind, text] if kind in ("compile_error", "memory") else failed

    def after_closed(self) -> list[str]:
        """[ending, what happened] of a program whose line closed; it is killed if it still lives."""
        for _ in range(20):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return self._judge(status) or ["runtime_error", "it ended before its tests"]
            time.sleep(0.005)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return ["runtime_error", "it broke the line to its tests"]

    def _judge(self, status: int) -> list[str] | None:
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            return ["output_limit", "output"] if self._too_long() else None
        if self._too_long() or code == -signal.SIGXFSZ:
            return ["output_limit", f"over {self.settings.output_mb} MiB"]
        if code == -signal.SIGXCPU:
            return ["timeout", "processor time"]
        name = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        lines = self.errors().strip().splitlines()
        return ["runtime_error", f"{name}: {lines[-1]}"[:500] if lines else name]

    def _too_long(self) -> bool:
        return os.fstat(self._out).st_size >= self.settings.output_mb * _MIB

    def output(self) -> str:
        """What it wrote to standard output, whole."""
        return os.pread(self._out, self.settings.output_mb * _MIB, 0).decode("utf-8", "replace")

    def errors(self) -> str:
        """The end of standard error."""
        size = os.fstat(self._err).st_size
        return os.pread(self._err, 2000, max(size - 2000, 0)).decode("utf-8", "replace")

    def close(self) -> None:
        """Close this end's descriptors."""
        for descriptor in (self._said, self._asks, self._out, self._err):
            os.close(descriptor)


class Failed(Exception):
    """The program could not be loaded, or a test failed: (ending, what happened)."""


def _failure(kind: object, *rest: object) -> tuple[str, str]:
    text = ": ".join(str(part) for part in rest)[:500]
    if kind in ("compile_error", "memory"):
        return str(kind), text
    if rest and rest[0] == "MemoryError":
        return "memory", text
    return "runtime_error", text


def _become_program(settings: Settings, source: str, *, serve: bool) -> NoReturn:
    """Never returns: the rest of this process's life belongs to the program. Nothing here is trusted from now
    on.
    """
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.setsid()
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        _limit(settings)
        os.environ.clear()
        module = ModuleType("program" if serve else "__main__")
        sys.modules[module.__name__] = module
        sys.argv = ["program"]
        code = _serve(module, source) if serve else _run_script(module, source)
    except BaseException:
        code = 1
    finally:
        os._exit(code)


def _serve(module: ModuleType, source: str) -> int:
    try:
        code = compile(source, "program", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        write_message(_SAYS, ["compile_error", str(error)[:300]])
        return 0
    try:
        exec(code, module.__dict__)
    except BaseException as error:
        write_message(_SAYS, ["raise", type(error).__name__, str(error)[:300]])
        return 0
    side = ProgramSide(_HEARS, _SAYS)
    side.keep(module.__dict__)  # the first that it keeps, so its number is NAMESPACE
    write_message(_SAYS, ["names", [name for name in module.__dict__ if isinstance(name, str)]])
    side.serve()
    return 0


def _run_script(module: ModuleType, source: str) -> int:
    code = 0
    try:
        try:
            compiled = compile(source, "program", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError) as error:
            os.write(_SAYS, f"compile_error\n{error}".encode("utf-8", "replace")[:1000])
            return 1
        exec(compiled, module.__dict__)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except MemoryError:
        os.write(_SAYS, b"memory\n")
        code = 1
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {str(error)[:300]}\n")
        code = 1
    if (threading := sys.modules.get("threading")) is not None:
        threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code & 255


def _run_with_inputs(settings: Settings, source: str) -> None:
    """Run the program once for each input that the host sends; the host compares the output."""
    while True:
        kind, text = read_message(0)
        if kind == "end":
            return
        program = Program(settings, source, stdin=text)
        failed = program.wait()
        write_message(_RESULTS, ["ran", program.output() if failed is None else "", failed])
        program.close()


def _run_calls(settings: Settings, source: str, entry: str, calls: list[list[Any]]) -> None:
    """Call the program's function; the host compares the results, as JSON."""
    program: Program | None = None
    for args in calls:
        try:
            if program is None:
                program = Program(settings, source)
                function = _entry(program, entry)
            write_message(_RESULTS, ["value", function(*args)])
        except Closed:
            if program is None:
                raise
            write_message(_RESULTS, ["failed", program.after_closed()])
            program.close()
            program = None
        except Failed as error:
            for _ in calls:  # it fails each of them; the host stops listening after the last
                write_message(_RESULTS, ["failed", list(error.args)])
            return
        except Exception as error:
            write_message(_RESULTS, ["failed", list(_explained(error))])


def _entry(program: Program, name: str) -> Any:
    names = program.names()
    namespace = Remote(program.side, NAMESPACE)
    if name in names:
        return namespace[name]
    if "Solution" in names:
        return getattr(namespace["Solution"](), name)
    raise Failed("runtime_error", f"it defines no {name}")


def _run_tests(settings: Settings, source: str) -> None:
    """Start the program, and only then read the tests."""
    program = Program(settings, source)
    setup, tests, nonce, stop = read_message(0)
    done = 0
    try:
        space = _namespace(program, [setup, *tests])
        exec(compile(setup, "tests", "exec", dont_inherit=True), space)
        for test in tests:
            result = _test(test, space)
            write_message(_RESULTS, ["test", nonce, *result])
            done += 1
            if stop and result[0] != "passed":
                return
    except Closed:
        write_message(_RESULTS, ["test", nonce, *program.after_closed()])
    except Failed as error:
        for _ in tests[done:]:
            write_message(_RESULTS, ["test", nonce, *error.args])
    except Exception as error:
        for _ in tests[done:]:
            write_message(_RESULTS, ["test", nonce, *_explained(error)])


def _test(source: str, space: dict[str, Any]) -> tuple[str, str]:
    try:
        exec(compile(source, "tests", "exec", dont_inherit=True), space)
    except Exception as error:
        return _explained(error)
    return "passed", ""


def _explained(error: Exception) -> tuple[str, str]:
    """(ending, what happened) for an exception of a test."""
    own = error.__dict__.get("program")
    text = f"{own or type(error).__name__}: {error}"[:500]
    if own == "MemoryError" or isinstance(error, MemoryError):
        return "memory", text
    return ("wrong_output" if isinstance(error, AssertionError) and own is None else "runtime_error"), text


def _namespace(program: Program, tests: list[str]) -> dict[str, Any]:
    """What the tests see: the program's names that they use.

    A program may define `sum` as its answer. But where tests use another name of it, the built-in is the
    tests' own: a program that defines `abs` beside its answer must not decide how far it may be off.
    """
    names = set(program.names())
    used = set().union(*(_names(compile(test, "tests", "exec", dont_inherit=True)) for test in tests)) & names
    if any(not hasattr(builtins, name) for name in used):
        used = {name for name in used if not hasattr(builtins, name)}
    source = Remote(program.side, NAMESPACE)
    return {"__name__": "tests"} | {name: source[name] for name in used if not name.startswith("__")}


def _names(code: CodeType) -> set[str]:
    inner = (_names(part) for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*inner)

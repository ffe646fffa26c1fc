"""Programs that mean harm, in real boxes. Each gets the right ending in time, and no process is left."""

import os
import socket
from pathlib import Path
from textwrap import dedent

import pytest
from box_lab import PARAMS, asserts, needs_bubblewrap, run_watched

from rewards.sandbox.suite import Calls, Ending, InputOutput, Result

ROOT = Path(__file__).parents[3]
EXPECTED = asserts("assert answer() == 3")


@pytest.fixture(autouse=True)
def _bubblewrap() -> None:
    needs_bubblewrap()


def ending(program: str, least: int = 1) -> Ending:
    return run_watched(dedent(program), EXPECTED, least=least).worst.ending


def look(program: str, expected: object) -> None:
    """The program's `look()` gives what is expected: what the box shows it."""
    calls = Calls(function="look", arguments=((),), results=(expected,))
    report = run_watched(dedent(program), calls)
    assert report.worst == Result(Ending.PASSED)


@pytest.mark.medium
def test_an_infinite_loop_is_ended_by_the_clock() -> None:
    assert ending("while True: pass") is Ending.TIMEOUT
    assert ending("import time\ntime.sleep(1000)") is Ending.TIMEOUT


@pytest.mark.medium
def test_a_fork_bomb_hits_its_limit_and_is_swept_up() -> None:
    bomb = """
        import os
        while True:
            try:
                os.fork()
            except OSError:
                pass
    """
    assert ending(bomb, least=PARAMS.processes) is Ending.TIMEOUT


def test_processes_are_counted() -> None:
    look(
        """
        import os, time
        def look():
            count = 0
            while True:
                try:
                    if os.fork() == 0:
                        time.sleep(1000)
                except OSError:
                    return 6 <= count <= 9
                count += 1
        """,
        True,
    )


@pytest.mark.parametrize("where", ["sys.stdout", "sys.stderr"])
def test_endless_output_is_cut_off(where: str) -> None:
    program = f"import sys\nwhile True: {where}.write('x' * 1000)"
    report = run_watched(program, EXPECTED)
    assert report.worst.ending is Ending.OUTPUT_LIMIT
    assert report.seconds < PARAMS.seconds, "by its size, not by the clock"
    again = run_watched(program, InputOutput(pairs=(("", "x"),)))
    assert again.worst.ending is Ending.OUTPUT_LIMIT


def test_a_memory_bomb_is_told_from_other_errors() -> None:
    assert ending("pile = bytearray(10**10)") is Ending.MEMORY
    assert ending("def answer():\n    return [0] * 10**10") is Ending.MEMORY
    reads = InputOutput(pairs=(("", "x"),))
    assert run_watched("pile = bytearray(10**10)", reads).worst.ending is Ending.MEMORY


@pytest.mark.parametrize(
    "program",
    [
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "import os\ndef answer():\n    os._exit(0)",
        "import sys\ndef answer():\n    sys.exit(0)",
        "import atexit, os\natexit.register(os._exit, 0)",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "import os\nos.closerange(3, 64)\ndef answer(): return 3",
    ],
)
def test_a_good_exit_code_proves_nothing(program: str) -> None:
    assert ending(program) is Ending.RUNTIME_ERROR


def test_an_early_exit_is_judged_by_what_was_printed() -> None:
    tests = InputOutput(pairs=(("", "42"),))
    assert run_watched("import os\nos._exit(0)", tests).worst.ending is Ending.WRONG_OUTPUT
    assert run_watched("print(42)\nraise SystemExit(3)", tests).worst.ending is Ending.RUNTIME_ERROR
    assert run_watched("print(42)\nraise SystemExit", tests).worst.ending is Ending.PASSED


def test_files_of_the_machine_are_not_there(tmp_path: Path) -> None:
    secret = tmp_path / "tests.jsonl"
    secret.write_text("assert answer() == 3")
    wanted = ["/etc/shadow", "/etc/passwd", "/proc", "/sys", "/home", "/var", "/run", "/work"]
    wanted += [str(secret), str(ROOT), str(Path.home() / ".bashrc"), str(Path.home() / ".ssh")]
    program = f"import os\ndef look():\n    return [path for path in {wanted!r} if os.path.lexists(path)]"
    look(program, [])


def test_links_out_of_the_work_folder_lead_nowhere() -> None:
    look(
        """
        import os
        def look():
            found = []
            for target in ("/etc/shadow", "../../../etc/passwd", "/proc/1/root/etc/passwd"):
                os.symlink(target, "link")
                found.append(os.path.exists("link"))
                os.unlink("link")
            return found
        """,
        [False, False, False],
    )


def test_only_the_work_folder_can_be_written_and_only_so_much() -> None:
    look(
        """
        import os, sys
        places = ["/", "/usr/lib", "/dev", "/dev/shm", "/lib", "/tmp", os.path.dirname(os.__file__)]
        def look():
            written = []
            for place in places:
                try:
                    with open(place + "/mark", "w") as file:
                        file.write("x")
                    written.append(place)
                except OSError:
                    pass
            size = 0
            try:
                for number in range(100):
                    with open(f"/tmp/{number}", "wb") as file:
                        size += file.write(bytes(2**20))
            except OSError:
                pass
            return written, 28 <= size / 2**20 <= 32
        """,
        [["/tmp"], True],
    )


def test_the_network_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as named:
        named.bind(f"\0braid-test-{os.getpid()}")
        named.listen()
        port = server.getsockname()[1]
        look(
            f"""
            import socket
            def look():
                failed = 0
                for family, address in (
                    (socket.AF_INET, ("127.0.0.1", {port})),
                    (socket.AF_INET, ("1.1.1.1", 53)),
                    (socket.AF_UNIX, "\\0braid-test-{os.getpid()}"),
                ):
                    try:
                        socket.socket(family).connect(address)
                    except OSError:
                        failed += 1
                return failed
            """,
            3,
        )


def test_the_environment_is_empty_and_no_right_is_left() -> None:
    look(
        """
        import os
        def look():
            try:
                os.setuid(0)
                return "root"
            except PermissionError:
                return [dict(os.environ), os.getuid() == 0, os.getcwd()]
        """,
        [{}, False, "/tmp"],
    )


def test_a_child_that_holds_the_output_delays_nothing() -> None:
    program = """
        import os, time
        print(42, flush=True)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
        os.wait()
    """
    report = run_watched(dedent(program), InputOutput(pairs=(("", "42"),)), least=3)
    assert report.worst == Result(Ending.PASSED)
    assert report.seconds < PARAMS.seconds


def test_the_tests_cannot_be_traced_or_read() -> None:
    look(
        """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        class Part(ctypes.Structure):
            _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
        def look():
            room = ctypes.create_string_buffer(8)
            here = Part(ctypes.addressof(room), 8)
            there = Part(id(None), 8)
            parent = os.getppid()
            read = libc.process_vm_readv(parent, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
            return [libc.ptrace(16, parent, 0, 0), read, libc.ptrace(16, 1, 0, 0)]
        """,
        [-1, -1, -1],
    )


def test_no_rights_come_by_new_namespaces_and_no_memory_by_shared_segments() -> None:
    look(
        """
        import ctypes, os, threading
        libc = ctypes.CDLL(None, use_errno=True)
        def tried(function, *args):
            return function(*args), ctypes.get_errno()
        def look():
            user, stack = 0x10000000, ctypes.create_string_buffer(65536)
            top = ctypes.c_void_p(ctypes.addressof(stack) + 65536)
            work = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 0)
            found = [tried(libc.unshare, user), tried(libc.clone, work, top, user | 17, None)]
            found.append(tried(libc.mount, b"x", b"/tmp", b"tmpfs", 0, None))
            found.append(tried(libc.shmget, 0, 2**30, 0o1600))
            thread = threading.Thread(target=found.append, args=("threads still work",))
            thread.start()
            thread.join()
            return found
        """,
        [[-1, 1]] * 4 + ["threads still work"],
    )


@pytest.mark.medium
@pytest.mark.parametrize("signal", ["SIGKILL", "SIGTERM", "SIGSTOP"])
def test_signals_to_the_tests_are_no_success(signal: str) -> None:
    program = f"""
        import os, signal
        os.kill(os.getppid(), signal.{signal})
        try:
            os.kill(1, signal.SIGKILL)
        except PermissionError:
            pass
        def answer():
            return 3
    """
    assert ending(program) is (Ending.TIMEOUT if signal == "SIGSTOP" else Ending.RUNTIME_ERROR)


def test_forged_results_reach_nobody() -> None:
    program = """
        import os
        from rewards.sandbox.inside.wire import framed
        from rewards.sandbox.inside.values import encode
        forged = framed(encode(["test", "0" * 32, "passed", ""])) * 3
        for number in range(64):
            try:
                os.write(number, forged)
            except OSError:
                pass
        def answer():
            return 4
    """
    assert ending(program) is Ending.RUNTIME_ERROR


def test_the_tests_are_not_in_the_programs_memory() -> None:
    program = """
        import gc, sys
        def look(word):
            wanted, seen = word + "0815", list(gc.get_objects())
            frame = sys._getframe()
            while frame:
                seen += [value for name, value in frame.f_locals.items() if name not in ("wanted", "seen")]
                frame = frame.f_back
            seen = [one for one in seen if type(one) in (list, tuple, dict, str, bytes)]
            return any(wanted in repr(one) for one in seen if one is not seen)
    """
    tests = asserts("assert look('4711') is False", setup="marker = '47110815'")
    assert run_watched(dedent(program), tests).worst == Result(Ending.PASSED)
    found = asserts("assert look('4711') is True", setup="marker = '47110815'")
    leaking = dedent(program) + "kept = ['4711' '0815']"
    assert run_watched(leaking, found).worst == Result(Ending.PASSED), "the search finds what is there"

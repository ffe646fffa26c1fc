"""One box: start it, talk with it until the last test or the last second, and leave no process behind."""

import contextlib
import json
import marshal
import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from rewards.sandbox.inside import wire
from rewards.sandbox.inside.values import decode, encode
from rewards.sandbox.limits import SandboxParams
from rewards.sandbox.ways import Start, Way, start, temporary_folder

_INSIDE = Path(__file__).parent / "inside"
_BOOT = """
import _signal, marshal, os, sys, types
_signal.alarm(int(sys.argv[1]))
size, data = int.from_bytes(os.read(0, 4), "big"), b""
while len(data) < size:
    part = os.read(0, size - len(data))
    data += part or sys.exit()
for name, code in marshal.loads(data):
    module = sys.modules[name] = types.ModuleType(name)
    exec(code, module.__dict__)
module.main()
"""
_CHUNK = 1 << 16
_MOST_ERRORS = 10_000
_GRACE_SECONDS = 5


class BoxError(Exception):
    """The box could not be started, or could not be ended: no verdict on any program."""


@cache
def _inside() -> bytes:
    """Our own code for the inside, compiled, without texts: parsing it anew in each box would take 10 ms."""
    package = "rewards.sandbox.inside"
    codes = []
    for name in ("values", "wire", "peer", "filter", "boot"):
        source = (_INSIDE / f"{name}.py").read_text(encoding="utf-8")
        codes.append((f"{package}.{name}", compile(source, f"{name}.py", "exec", optimize=2)))
    return wire.framed(marshal.dumps(codes))


@dataclass(kw_only=True, slots=True)
class Box:
    """A started box. Use `opened`."""

    process: subprocess.Popen[bytes]
    way: Way
    info: int
    pidfd: int | None = None
    errors: bytearray = field(default_factory=bytearray)
    _buffer: bytearray = field(default_factory=bytearray)
    _waiting: bytearray = field(default_factory=bytearray)

    def send(self, message: object) -> None:
        """Queue a message; it goes out while `receive` waits."""
        self._waiting += wire.framed(encode(message))

    def send_raw(self, data: bytes) -> None:
        """Queue bytes that are no message."""
        self._waiting += data

    def receive(self, deadline: float) -> Any:
        """The next message; None when the box ended or talks nonsense.

        Args:
            deadline: on the clock of `time.monotonic`.

        Raises:
            TimeoutError: the deadline came first.
        """
        assert self.process.stdin and self.process.stdout and self.process.stderr
        streams = (self.process.stdin, self.process.stdout, self.process.stderr)
        with selectors.DefaultSelector() as selector:
            for stream in streams[1:]:
                if not stream.closed:
                    selector.register(stream, selectors.EVENT_READ)
            if self._waiting:
                selector.register(streams[0], selectors.EVENT_WRITE)
            while True:
                if (body := self._message()) is not None:
                    try:
                        return decode(body)
                    except ValueError:
                        return None
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                for key, _ in selector.select(left):
                    if key.fileobj is streams[0]:
                        self._write(selector)
                    elif not self._read(key.fd, errors=key.fileobj is streams[2]):
                        selector.unregister(key.fileobj)
                        if key.fileobj is streams[1]:
                            return None

    def _message(self) -> bytes | None:
        size = int.from_bytes(self._buffer[:4], "big")
        if len(self._buffer) < 4 or len(self._buffer) < 4 + size:
            return None
        body = bytes(self._buffer[4 : 4 + size])
        del self._buffer[: 4 + size]
        return body

    def _write(self, selector: selectors.BaseSelector) -> None:
        assert self.process.stdin
        try:
            sent = os.write(self.process.stdin.fileno(), self._waiting[:_CHUNK])
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._waiting.clear()  # it ended; reading says so
            sent = 0
        del self._waiting[:sent]
        if not self._waiting:
            selector.unregister(self.process.stdin)

    def _read(self, descriptor: int, *, errors: bool) -> bool:
        part = os.read(descriptor, _CHUNK)
        if errors:
            self.errors += part[: _MOST_ERRORS - len(self.errors)]
        else:
            self._buffer += part
            if len(self._buffer) > wire.MOST_BYTES:
                return False
        return bool(part)

    def complaint(self, seconds: float) -> str:
        """The last line on standard error, which is read to its end, for at most so long.

        What a box that ends wrote there may be seen only after the end of its output.
        """
        assert self.process.stderr
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stderr, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0 and selector.select(left):
                if not self._read(self.process.stderr.fileno(), errors=True):
                    break
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, deadline - time.monotonic()))
        lines = self.errors.decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else f"exit code {self.process.poll()}"

    def find_first(self) -> None:
        """Hold on to the box's first process, whose end is the end of all in it. Call it once something came
        from inside.
        """
        if self.way == "none":
            return
        number = json.loads(os.read(self.info, 4096))["child-pid"]
        with contextlib.suppress(ProcessLookupError):
            self.pidfd = os.pidfd_open(number)

    def end(self) -> None:
        """Kill every process of the box and wait until they are gone.

        Raises:
            BoxError: the kernel has not ended them in five seconds.
        """
        if self.way == "none":
            _kill_tree(self.process.pid)
        if self.pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            gone = bool(poll.poll(_GRACE_SECONDS * 1000))
            os.close(self.pidfd)
            if not gone:
                raise BoxError("its processes were killed and are still there")
        # bubblewrap ends by itself then, and collects its child; killed at once, it would leave that to init.
        for wait in (1.0 if self.pidfd is not None else 0.0, _GRACE_SECONDS):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(wait)
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        raise BoxError("bubblewrap was killed and is still there")


def _kill_tree(pid: int) -> None:
    """Kill a process's descendants, those that took a session of their own too, until none is left; then the
    process.
    """
    deadline = time.monotonic() + _GRACE_SECONDS
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        top.suspend()  # it adopts orphans, and must not end before they have
        while time.monotonic() < deadline:
            living = [one for one in top.children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]
            if not living:
                break
            for one in living:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            time.sleep(0.002)  # they need the processor too, to die
        top.kill()


@contextmanager
def opened(way: Way, params: SandboxParams) -> Iterator[Box]:
    """A box that is ready for a job, and gone afterwards with everything in it.

    Raises:
        BoxError: it did not start, or could not be ended.
    """
    with contextmanager(temporary_folder)(way) as folder:
        reads, writes = os.pipe()
        try:
            recipe = start(way, params, info=writes, folder=folder)
            longest = params.start_seconds + params.seconds + _GRACE_SECONDS
            with _started(recipe, writes, longest) as process:
                box = Box(process=process, way=way, info=reads)
                try:
                    _await_ready(box, params, recipe.user_inside)
                    yield box
                finally:
                    box.end()
        finally:
            os.close(reads)


def _started(recipe: Start, info: int, longest: int) -> subprocess.Popen[bytes]:
    # A parent that is killed in the first milliseconds cannot take the box along: it has not asked for that
    # yet. So the box ends by itself after `longest` seconds.
    try:
        return subprocess.Popen(
            (*recipe.command, _BOOT, str(longest)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=recipe.folder,
            env={"PYTHONHASHSEED": "0"},
            user=recipe.as_user,
            group=recipe.as_user,
            extra_groups=None if recipe.as_user is None else [],
            pass_fds=(info,),
            start_new_session=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BoxError(str(error)) from error
    finally:
        os.close(info)


def _await_ready(box: Box, params: SandboxParams, user: int | None) -> None:
    assert box.process.stdin is not None
    os.set_blocking(box.process.stdin.fileno(), False)
    box.send_raw(_inside())
    settings = params.model_dump(include={"seconds", "memory_mb", "processes", "output_mb"})
    box.send({**settings, "user": user, "boxed": box.way != "none"})
    try:
        said = box.receive(time.monotonic() + params.start_seconds)
    except TimeoutError:
        raise BoxError(f"not ready in {params.start_seconds} s") from None
    if said != ["ready"]:
        raise BoxError(box.complaint(_GRACE_SECONDS))
    box.find_first()

"""System calls that no honest program needs, and that reach deep into the kernel or around the limits.

Namespaces of its own would give a program all rights inside them: a file system in memory of any size, for
one. Shared memory of System V is charged to nobody. The rest is what exploits of the kernel are made of.
"""

from __future__ import annotations

import ctypes
import os
import struct

_NUMBERS = {
    "shmget": 29, "semget": 64, "msgget": 68, "ptrace": 101, "personality": 135, "pivot_root": 155,
    "chroot": 161, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169,
    "init_module": 175, "delete_module": 176, "kexec_load": 246, "add_key": 248, "request_key": 249,
    "keyctl": 250, "unshare": 272, "perf_event_open": 298, "open_by_handle_at": 304, "setns": 308,
    "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313,
    "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431,
    "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "mount_setattr": 442,
}  # fmt: skip
"""Refused system calls: number on x86_64, from Linux's asm/unistd_64.h."""
_CLONE, _CLONE3 = 56, 435
_NEW_NAMESPACE = 0x7E020000
"""Flags of clone that make namespaces. Those of clone3 are behind a pointer: it is "not there", and libc
takes clone.
"""
_X86_64 = 0xC000003E
_OTHER_TABLES = 0x40000000
"""First number of the x32 calls."""
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_SET_SECCOMP, _FILTER = 22, 2


def install() -> None:
    """Put the filter on this process and all that come from it. Needs PR_SET_NO_NEW_PRIVS.

    Raises:
        OSError: another processor than x86_64, or a kernel without filters.
    """
    if os.uname().machine != "x86_64":
        raise OSError("no filter of system calls for this processor")
    code = b"".join(struct.pack("=HBBI", *line) for line in _program())
    lines = ctypes.create_string_buffer(code, len(code))
    filter_ = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(lines)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_SECCOMP, _FILTER, filter_, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def _program() -> list[tuple[int, int, int, int]]:
    """Lines of BPF: (operation, lines to skip if true, if false, operand). Operands are offsets in
    seccomp_data.
    """
    lines = [
        (_LOAD, 0, 0, 4),  # architecture
        (_EQUAL, 1, 0, _X86_64),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),  # number
        (_AT_LEAST, 0, 1, _OTHER_TABLES),
        (_RETURN, 0, 0, _ERROR | _EPERM),
    ]
    for number in _NUMBERS.values():
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERROR | _EPERM)]
    return [
        *lines,
        *((_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERROR | _ENOSYS)),
        *((_EQUAL, 0, 3, _CLONE), (_LOAD, 0, 0, 16), (_ANY_BIT, 0, 1, _NEW_NAMESPACE)),
        (_RETURN, 0, 0, _ERROR | _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]

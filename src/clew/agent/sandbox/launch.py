"""Confines itself, then becomes the command. Run as a script, so it imports nothing but the standard library.

    python -I -S launch.py [--tty] [--parent PID] [--mounts] [--landlock] [--write PATH]… [--protect PATH]…
                           [--shm] [--no-network] [--filter] -- COMMAND…

In this order: make the terminal the controlling one; ask to be killed with the parent; with `--mounts` make everything
but the `--write` paths read-only in a private view of the file system, and the `--protect` paths inside them as well;
give up dangerous capabilities; with `--landlock` forbid writes outside the `--write` paths (and devices like
/dev/null); with `--filter` forbid system calls that change the machine, and with `--no-network` sockets and
connections. Any step that fails ends it with code 126: it never runs a command less confined than asked.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
import sys
from typing import NoReturn

FAILED = 126
NOT_FOUND = 127

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# --- Landlock: access rights of the kernel's landlock.h that change something, with the version that brought them.

_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_WRITES = _WRITE_FILE | sum(1 << bit for bit in range(4, 13)) | 1 << 13 | _TRUNCATE
_FILE_WRITES = _WRITE_FILE | _TRUNCATE
_TCP = 0b11
_SCOPE_SOCKETS, _SCOPE_SIGNALS = 1, 2
LOWEST_ABI = 3  # before it, truncating could not be forbidden
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts")

# --- mounts

_MS_RDONLY, _MS_BIND, _MS_REC, _MS_SLAVE = 1, 4096, 16384, 1 << 19
_MS_NOSUID, _MS_NODEV = 2, 4
_SHM = "/dev/shm"  # noqa: S108 - gets a private one
_CLONE_NEWNS, _CLONE_NEWUSER = 0x0002_0000, 0x1000_0000
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _ATTR_RDONLY = 442, -100, 0x8000, 1

# --- capabilities that concern files and processes of one's own; all others go

_KEPT_CAPABILITIES = sum(1 << bit for bit in (0, 1, 2, 3, 4, 5, 6, 7, 10))
_LAST_CAPABILITY = 63

# --- seccomp: (machine -> audit architecture, numbers of the system calls)

_AUDIT = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
CALLS = {
    "x86_64": {
        "socket": 41, "connect": 42, "io_uring_setup": 425,
        "settimeofday": 164, "swapon": 167, "swapoff": 168, "reboot": 169, "init_module": 175, "delete_module": 176,
        "clock_settime": 227, "kexec_load": 246, "open_by_handle_at": 304, "setns": 308, "finit_module": 313,
        "kexec_file_load": 320, "bpf": 321,
    },
    "aarch64": {
        "socket": 198, "connect": 203, "io_uring_setup": 425,
        "settimeofday": 170, "swapon": 224, "swapoff": 225, "reboot": 142, "init_module": 105, "delete_module": 106,
        "clock_settime": 112, "kexec_load": 104, "open_by_handle_at": 265, "setns": 268, "finit_module": 273,
        "kexec_file_load": 294, "bpf": 280,
    },
}  # fmt: skip
_NETWORK_CALLS = frozenset({"connect", "io_uring_setup"})
_X32_BIT = 0x4000_0000
_ALLOW, _REFUSE = 0x7FFF_0000, 0x0005_0000 | errno.EPERM
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06


class Refused(Exception):
    """A step of the confinement failed."""


def main(arguments: list[str]) -> NoReturn:
    options, command = _parse(arguments)
    try:
        _confine(options)
    except (Refused, OSError) as error:
        sys.stderr.write(f"clew sandbox: {error}\n")
        sys.stderr.flush()
        os._exit(FAILED)
    # By the interpreter, or by a shell that started clew in the background; a command would inherit that.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, os.environ)  # noqa: S606 - to become the command is the point
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(NOT_FOUND if error.errno == errno.ENOENT else FAILED)


def _parse(arguments: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    options: dict[str, list[str]] = {}
    words = iter(arguments)
    for word in words:
        if word == "--":
            command = list(words)
            if command:
                return options, command
            break
        if word in ("--write", "--protect", "--parent"):
            options.setdefault(word, []).append(next(words))
        elif word in ("--tty", "--mounts", "--landlock", "--shm", "--no-network", "--filter"):
            options[word] = []
        else:
            break
    sys.stderr.write("clew sandbox: wrong arguments\n")
    os._exit(FAILED)


def _confine(options: dict[str, list[str]]) -> None:
    if "--tty" in options:
        _take_terminal()
    if "--parent" in options:
        _die_with(int(options["--parent"][0]))
    writable = options.get("--write", [])
    if "--mounts" in options:
        _separate_mounts(writable, options.get("--protect", []), shm="--shm" in options)
        if "--shm" in options:
            writable = [*writable, _SHM]
    if "--landlock" in options or "--filter" in options:
        _drop_capabilities()
        _prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
    if "--landlock" in options:
        _restrict_writes(writable, network="--no-network" not in options)
    if "--filter" in options:
        _filter_calls(network="--no-network" not in options)


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise Refused(f"{what}: {os.strerror(code)}")
    return result


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _die_with(parent: int) -> None:
    if sys.platform != "linux":
        return
    _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent and os.getppid() == 1:
        os.kill(os.getpid(), signal.SIGKILL)


# --- a private, read-only view


def _separate_mounts(writable: list[str], protected: list[str], *, shm: bool) -> None:
    if _libc.unshare(_CLONE_NEWNS) != 0:
        user, group = os.getuid(), os.getgid()
        _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare")
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - pathlib costs start-up time
                file.write(text)
    here = os.getcwd()  # noqa: PTH109 - as above
    _mount("none", "/", _MS_REC | _MS_SLAVE)
    opened = sorted(writable, key=len)
    for path in opened:
        _mount(path, path, _MS_BIND | _MS_REC)
    was_read_only = {path for path in opened if os.statvfs(path).f_flag & _MS_RDONLY}
    _set_read_only("/", True)
    for path in opened:
        if path not in was_read_only:
            _set_read_only(path, False)
    for path in sorted(protected, key=len):
        _mount(path, path, _MS_BIND | _MS_REC)
        _set_read_only(path, True)
        for root in opened:
            if root != path and root.startswith(path + "/") and root not in was_read_only:
                _set_read_only(root, False)
    if shm:
        _mount("tmpfs", _SHM, _MS_NOSUID | _MS_NODEV, "tmpfs", "mode=1777")
    os.chdir(here)  # the directory as it is in the new view


def _mount(source: str, target: str, flags: int, kind: str | None = None, data: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    _check(_libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]), f"mount {target}")


def _set_read_only(path: str, read_only: bool) -> None:
    attributes = struct.pack("QQQQ", _ATTR_RDONLY * read_only, _ATTR_RDONLY * (not read_only), 0, 0)
    result = _libc.syscall(
        _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(path), _AT_RECURSIVE, attributes, ctypes.c_size_t(len(attributes))
    )
    _check(result, f"mount_setattr {path}")


def _drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(0x2008_0522, 0)
    sets = (ctypes.c_uint32 * 6)()
    _check(_libc.capget(header, sets), "capget")
    for bit in range(_LAST_CAPABILITY + 1):
        if not _KEPT_CAPABILITIES >> bit & 1 and _libc.prctl(24, ctypes.c_ulong(bit), 0, 0, 0) != 0:  # PR_CAPBSET_DROP
            break  # not allowed (then nothing can be gained either: no_new_privs follows), or no such capability
    privileged = os.geteuid() == 0
    for place in range(6):
        kept = _KEPT_CAPABILITIES & 0xFFFF_FFFF if privileged and place in (0, 1) else 0
        sets[place] &= kept
    _check(_libc.capset(header, sets), "capset")


# --- Landlock


def landlock_abi() -> int:
    """The version the kernel offers; 0 where it has none."""
    if sys.platform != "linux":
        return 0
    return max(0, _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1))


def _restrict_writes(writable: list[str], *, network: bool) -> None:
    abi = landlock_abi()
    if abi < LOWEST_ABI:
        raise Refused("the kernel's Landlock is missing or too old")
    tcp = 0 if network or abi < 4 else _TCP
    scope = 0 if abi < 6 else _SCOPE_SIGNALS | (0 if network else _SCOPE_SOCKETS)
    attributes = struct.pack("QQQ", _WRITES, tcp, scope)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = _check(_libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0), "landlock")
    for path in writable:
        _allow_beneath(ruleset, path, _WRITES)
    for path in _DEVICES:
        if os.path.exists(path):  # noqa: PTH110 - pathlib costs start-up time
            _allow_beneath(ruleset, path, _FILE_WRITES)
    _check(_libc.syscall(_RESTRICT_SELF, ruleset, 0), "landlock")
    os.close(ruleset)


def _allow_beneath(ruleset: int, path: str, rights: int) -> None:
    beneath = os.open(path, getattr(os, "O_PATH", 0) | os.O_CLOEXEC)
    if not os.path.isdir(path):  # noqa: PTH112 - as above
        rights &= _FILE_WRITES
    rule = struct.pack("=Qi", rights, beneath)
    _check(_libc.syscall(_ADD_RULE, ruleset, 1, rule, 0), f"landlock {path}")
    os.close(beneath)


# --- seccomp


def call_filter(machine: str, *, network: bool) -> bytes:
    """The filter program for a machine (`x86_64`, `aarch64`), as the kernel's array of instructions."""
    calls = CALLS[machine]
    refused = [
        number for name, number in calls.items() if name != "socket" and (name not in _NETWORK_CALLS or not network)
    ]
    tests: list[tuple[int, int]] = [(_EQUAL, number) for number in refused]
    if machine == "x86_64":
        tests.insert(0, (_AT_LEAST, _X32_BIT))
    # Laid out as: architecture, number, one test per refused call, the socket test, allow, refuse.
    socket_part = 0 if network else 3
    end = len(tests) + socket_part
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 0, end + 2, _AUDIT[machine]), (_LOAD, 0, 0, 0)]
    for place, (test, number) in enumerate(tests):
        code.append((test, end - place, 0, number))
    if not network:
        code += [(_EQUAL, 0, 2, calls["socket"]), (_LOAD, 0, 0, 16), (_EQUAL, 0, 1, 1)]  # 1: AF_UNIX
    code += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def _filter_calls(*, network: bool) -> None:
    machine = platform.machine()
    if machine not in _AUDIT:
        raise Refused(f"no system call filter for {machine}")
    code = call_filter(machine, network=network)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    _check(_libc.prctl(22, ctypes.c_ulong(2), program, 0, 0), "seccomp")  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


if __name__ == "__main__":
    main(sys.argv[1:])

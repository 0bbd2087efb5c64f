"""A simulation of Windows for the code of gan_lightning: no POSIX-only names, and stricter rules for open files.

``python tests/support/windows.py COMMAND [ARGUMENTS] [-- COMMAND [ARGUMENTS]]...`` imports every module of
gan_lightning, then runs its commands (train, sample, ...) one after another in this process.

Only calls from gan_lightning are affected. Third-party libraries take their POSIX branches here as always.
"""

import builtins
import contextlib
import importlib
import logging
import mmap
import os
import pkgutil
import signal
import sys
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any

ABSENT = {
    "": """
        crypt curses fcntl grp nis ossaudiodev posix pty pwd readline resource spwd syslog termios tty
    """,
    "mmap": """
        MADV_DONTFORK MADV_DONTNEED MADV_FREE MADV_HUGEPAGE MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED
        MAP_ANON MAP_ANONYMOUS MAP_NORESERVE MAP_POPULATE MAP_PRIVATE MAP_SHARED PROT_EXEC PROT_READ PROT_WRITE madvise
    """,
    "os": """
        EX_CANTCREAT EX_CONFIG EX_DATAERR EX_IOERR EX_NOINPUT EX_NOPERM EX_OSERR EX_OSFILE EX_SOFTWARE EX_TEMPFAIL
        EX_UNAVAILABLE EX_USAGE F_LOCK F_TEST F_TLOCK F_ULOCK O_ACCMODE O_CLOEXEC O_DIRECT O_DIRECTORY O_DSYNC
        O_NOATIME O_NOCTTY O_NOFOLLOW O_NONBLOCK O_PATH O_SYNC O_TMPFILE POSIX_FADV_DONTNEED POSIX_FADV_RANDOM
        POSIX_FADV_SEQUENTIAL POSIX_FADV_WILLNEED PRIO_PROCESS P_ALL P_PID RTLD_GLOBAL RTLD_NOW SEEK_DATA SEEK_HOLE
        ST_RDONLY WCOREDUMP WEXITED WEXITSTATUS WIFEXITED WIFSIGNALED WIFSTOPPED WNOHANG WNOWAIT WSTOPSIG WTERMSIG
        WUNTRACED chown chroot confstr copy_file_range ctermid environb eventfd fchdir fchown fdatasync fork forkpty
        fpathconf fstatvfs getegid getenvb geteuid getgid getgroups getloadavg getpgid getpgrp getpriority getrandom
        getsid getuid getxattr initgroups killpg lchown listxattr lockf major makedev memfd_create minor mkfifo mknod
        nice openpty pathconf pidfd_open pipe2 posix_fadvise posix_fallocate posix_spawn posix_spawnp pread preadv
        pwrite pwritev readv register_at_fork removexattr sched_getaffinity sched_setaffinity sched_yield sendfile
        setegid seteuid setgid setgroups setpgid setpgrp setpriority setsid setuid setxattr spawnlp spawnvp splice
        statvfs sync sysconf sysconf_names tcgetpgrp ttyname uname wait wait3 wait4 waitid writev
    """,
    "select": """
        epoll kevent kqueue poll
    """,
    "signal": """
        ITIMER_REAL SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGPROF SIGQUIT SIGRTMAX SIGRTMIN
        SIGSTOP SIGSYS SIGTRAP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ
        SIG_BLOCK SIG_SETMASK SIG_UNBLOCK alarm getitimer pause pthread_kill pthread_sigmask setitimer siginterrupt
        sigpending sigtimedwait sigwait sigwaitinfo
    """,
    "time": """
        clock_getres clock_gettime clock_gettime_ns tzset
    """,
}
# Names by module that the type stubs of the standard library (typeshed) exclude on win32.
ABSENT_NAMES = {module: set(names.split()) for module, names in ABSENT.items()}
ABSENT_MODULES = ABSENT_NAMES.pop("")
SIGNALS = "SIGINT", "SIGILL", "SIGFPE", "SIGSEGV", "SIGTERM", "SIGABRT"  # the signals that Windows has


def is_gan_lightning(variables: dict[str, Any]) -> bool:
    """Return whether a module with these globals belongs to gan_lightning."""
    return variables.get("__name__", "").partition(".")[0] == "gan_lightning"


def called_by_us() -> bool:
    """Return whether the caller of this function's caller belongs to gan_lightning."""
    return is_gan_lightning(sys._getframe(2).f_globals)


class Simulated(ModuleType):
    """A module of the standard library as it is on Windows; assignments to its attributes reach the real module."""

    def __init__(self, module: ModuleType, absent: set[str], changed: dict[str, Any]) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(changed, _module=module, _absent=absent)

    def __getattr__(self, name: str) -> Any:
        if name in self._absent:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} on Windows")
        return getattr(self._module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._module, name, value)


@property
def absent(self: Any) -> None:
    raise AttributeError("'mmap.mmap' has no attribute 'madvise' on Windows")


class Map(mmap.mmap, metaclass=type("MapType", (type,), {"madvise": absent})):  # from class and instances
    madvise = absent


def set_handler(signum: int, handler: Any) -> Any:
    """``signal.signal``, which raises ValueError for the signals that Windows lacks."""
    if signum not in [getattr(signal, name) for name in SIGNALS]:
        raise ValueError(f"invalid signal value: {signum}")
    return signal.signal(signum, handler)


def open_file(path: Any, *args: Any, **options: Any) -> int:
    """``os.open``, which raises PermissionError for directories."""
    if Path(path).is_dir():
        raise PermissionError(13, "Permission denied", str(path))
    return os.open(path, *args, **options)


def load_library(name: str | None, *_: Any, **__: Any) -> None:
    """``ctypes.CDLL``, which finds no POSIX library."""
    raise FileNotFoundError(f"Could not find module {name!r}")


CHANGED = {
    "ctypes": {"CDLL": load_library},
    "mmap": {"mmap": Map},
    "os": {"name": "nt", "open": open_file},
    "signal": {"Signals": IntEnum("Signals", {name: getattr(signal, name) for name in SIGNALS}), "signal": set_handler},
    "sys": {"platform": "win32"},
}


def is_held(path: Path) -> bool:
    """Return whether this process has a file open or mapped; Windows then neither removes it nor renames over it."""
    here, opened = str(path.resolve()), []
    for descriptor in [*Path("/proc/self/fd").glob("*")]:
        with contextlib.suppress(OSError):  # the descriptor of this directory listing is closed
            opened.append(str(descriptor.readlink()))
    maps = Path("/proc/self/maps")  # Linux only
    return here in opened or (maps.exists() and any(line.endswith(here) for line in maps.read_text().splitlines()))


def check_not_held(*paths: Path) -> None:
    """Raise PermissionError if one of these files is open."""
    for path in filter(is_held, paths):
        raise PermissionError(13, "The process cannot access the file because it is being used", str(path))


def restrict_paths() -> None:
    """Give pathlib the rules of Windows for open files, symbolic links, line ends and the default encoding."""
    real = {name: getattr(Path, name) for name in "open read_text rename replace symlink_to unlink write_text".split()}  # noqa: SIM905
    renamed = set()

    def replace(self: Path, target: Path) -> Path:
        if called_by_us():
            check_not_held(self, target)
            if str(target) not in renamed:  # fail the first time, as if a virus scanner read the target
                renamed.add(str(target))
                raise PermissionError(13, "Access is denied", str(self), None, str(target))
        return real["replace"](self, target)

    def rename(self: Path, target: Path) -> Path:
        if called_by_us():
            check_not_held(self)
            if Path(target).exists():
                raise FileExistsError(17, "Cannot create a file when that file already exists", str(target))
        return real["rename"](self, target)

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if called_by_us():
            check_not_held(self)
        real["unlink"](self, missing_ok)

    def symlink_to(self: Path, *args: Any, **options: Any) -> None:
        if called_by_us():
            raise OSError(1314, "A required privilege is not held by the client", str(self))
        real["symlink_to"](self, *args, **options)

    def open_text(
        self: Path, mode: str = "r", buffering: int = -1, encoding: Any = None, *args: Any, **rest: Any
    ) -> Any:
        if called_by_us() and "b" not in mode:
            encoding = encoding or "cp1252"
            if mode[0] != "r" and len(args) < 2:
                rest.setdefault("newline", "\r\n")
        return real["open"](self, mode, buffering, encoding, *args, **rest)

    def read_text(self: Path, encoding: str | None = None, *args: Any, **rest: Any) -> str:
        return real["read_text"](self, encoding or ("cp1252" if called_by_us() else None), *args, **rest)

    def write_text(self: Path, data: str, encoding: str | None = None, *args: Any, **rest: Any) -> int:
        if called_by_us():
            encoding = encoding or "cp1252"
            if len(args) < 2:
                rest.setdefault("newline", "\r\n")
        return real["write_text"](self, data, encoding, *args, **rest)

    for name, method in dict(locals(), open=open_text).items():
        if name in real:
            setattr(Path, name, method)


def simulate() -> None:
    """Let gan_lightning import the simulated standard library from now on."""
    simulated = {
        name: Simulated(importlib.import_module(name), ABSENT_NAMES.get(name, set()), CHANGED.get(name, {}))
        for name in ABSENT_NAMES | CHANGED
    }
    real_import = builtins.__import__

    def import_on_windows(name: str, variables: Any = None, *args: Any, **options: Any) -> Any:
        module, ours = name.partition(".")[0], is_gan_lightning(variables or {})
        if ours and module in ABSENT_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        found = real_import(name, variables, *args, **options)
        return simulated.get(module, found) if ours else found

    def init_handler(self: Any, filename: Any, mode: str = "a", encoding: Any = None, *args: Any, **rest: Any) -> None:
        real_init(self, filename, mode, encoding or "cp1252", *args, **rest)

    real_init, logging.FileHandler.__init__ = logging.FileHandler.__init__, init_handler
    builtins.__import__ = import_on_windows
    restrict_paths()


def main() -> None:
    """Import all modules, then run the commands of the command line."""
    simulate()
    import gan_lightning

    for module in pkgutil.walk_packages(gan_lightning.__path__, "gan_lightning."):
        importlib.import_module(module.name)
    gan_lightning.io.files.RETRY_S = 0  # the retries of a replacement need not wait
    words = sys.argv[1:]
    while words:
        end = words.index("--") if "--" in words else len(words)
        sys.argv, words = words[:end], words[end + 1 :]
        print(f"--- {sys.argv[0]}", flush=True)
        try:
            importlib.import_module(f"gan_lightning.cli.{sys.argv[0]}").main()
        except SystemExit as error:
            if error.code:
                raise


if __name__ == "__main__":
    main()

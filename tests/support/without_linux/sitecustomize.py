"""Make each Python process that finds this folder on PYTHONPATH behave as one on macOS, as far as Remit can see.

What only Linux has is taken away: the attributes of modules (documented per function in the library reference of
Python, "Availability"), symbols of libc, and the file systems of the kernel. The rest of the system stays Linux.
"""

import errno
import fcntl
import os
import resource
import select
import selectors
import signal
import socket
import struct
import sys
import sysconfig
import time
import types

LINUX_ONLY = {
    os: (
        "O_PATH O_TMPFILE O_DIRECT O_NOATIME O_RSYNC O_LARGEFILE P_PIDFD EFD_CLOEXEC EFD_NONBLOCK EFD_SEMAPHORE MFD_CLOEXEC "
        "MFD_ALLOW_SEALING SCHED_BATCH SCHED_IDLE XATTR_CREATE XATTR_REPLACE RTLD_DEEPBIND GRND_NONBLOCK GRND_RANDOM "
        "CLONE_NEWNS CLONE_NEWUSER copy_file_range eventfd eventfd_read eventfd_write fdatasync getrandom getresgid "
        "getresuid getxattr listxattr memfd_create pidfd_open pipe2 posix_fadvise posix_fallocate removexattr "
        "sched_getaffinity sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setparam "
        "sched_setscheduler setns setresgid setresuid setxattr splice unshare waitid"
    ),
    fcntl: "F_ADD_SEALS F_GET_SEALS F_SEAL_SEAL F_SEAL_SHRINK F_SEAL_GROW F_SEAL_WRITE F_SETPIPE_SZ F_GETPIPE_SZ F_NOTIFY",
    resource: "prlimit RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_OFILE RLIMIT_RTPRIO RLIMIT_RTTIME RLIMIT_SIGPENDING RUSAGE_THREAD",
    select: "epoll EPOLLIN EPOLLOUT EPOLLERR EPOLLHUP EPOLLET EPOLLONESHOT EPOLLEXCLUSIVE EPOLLPRI EPOLLRDHUP EPOLL_CLOEXEC POLLRDHUP",
    signal: "SIGPWR SIGSTKFLT SIGPOLL SIGRTMIN SIGRTMAX pidfd_send_signal sigtimedwait sigwaitinfo",
    socket: (
        "SO_PEERCRED SO_PEERSEC SO_PASSCRED SO_MARK SO_BINDTODEVICE SCM_CREDENTIALS SOCK_CLOEXEC SOCK_NONBLOCK AF_NETLINK AF_PACKET "
        "AF_VSOCK AF_ALG MSG_CMSG_CLOEXEC MSG_NOSIGNAL MSG_MORE TCP_USER_TIMEOUT TCP_QUICKACK TCP_DEFER_ACCEPT IP_TRANSPARENT"
    ),
    time: "CLOCK_BOOTTIME CLOCK_TAI pthread_getcpuclockid",
    errno: "ENOKEY EKEYEXPIRED EKEYREVOKED EBADE ECHRNG ECOMM EDOTDOT EISNAM EMEDIUMTYPE ENONET ENOTUNIQ EREMCHG EREMOTEIO ERESTART ERFKILL ESTRPIPE EUCLEAN EUNATCH EXFULL",
}  # fmt: skip
LIBC = frozenset(
    [
        "prctl",
        "syscall",
        "unshare",
        "setns",
        "mount",
        "umount",
        "umount2",
        "pivot_root",
        "clone",
        "clone3",
        "capget",
        "capset",
        "memfd_create",
        "eventfd",
        "epoll_create1",
        "inotify_init1",
        "pidfd_open",
        "signalfd",
        "timerfd_create",
        "sethostname",
        "setresuid",
        "setresgid",
        "prlimit",
        "getrandom",
        "statx",
        "openat2",
    ]
)
KERNEL = ("/proc", "/sys", "/dev/shm", "/run/systemd")
READS = frozenset({"open", "os.listdir", "os.scandir", "os.chdir", "sqlite3.connect"})


def refuse(event, arguments):
    """An audit hook (PEP 578): files of the kernel are not there, and libc has no such symbol."""
    if event == "ctypes.dlsym" and arguments[1] in LIBC:
        raise AttributeError(f"dlsym(RTLD_DEFAULT, {arguments[1]}): symbol not found")
    if event in READS and isinstance(arguments[0], (str, bytes, os.PathLike)) and is_of_kernel(arguments[0]):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), arguments[0])
    if event == "subprocess.Popen" and os.path.basename(os.fsdecode(arguments[0] or arguments[1][0])) in (
        "bwrap",
        "ip",
        "unshare",
    ):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), arguments[0])


def is_of_kernel(path):
    name = os.fsdecode(path)
    return any(name == each or name.startswith(each + "/") for each in KERNEL)


def hidden(function):
    """`os.stat` and its relatives raise no audit event."""

    def looked(path, *arguments, **options):
        if isinstance(path, (str, bytes, os.PathLike)) and is_of_kernel(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return function(path, *arguments, **options)

    return looked


def control(descriptor, command, argument=0):
    """`fcntl` with F_GETPATH of macOS."""
    if command == F_GETPATH:
        return os.fsencode(
            NAME_OF(f"/proc/self/fd/{descriptor if isinstance(descriptor, int) else descriptor.fileno()}")
        ).ljust(len(argument), b"\0")
    return CONTROL(descriptor, command, argument)


class Socket(socket.socket):
    """A socket with LOCAL_PEERCRED of macOS, and without the kinds of sockets that its unix(4) lacks."""

    def __init__(self, family=-1, type=-1, proto=-1, fileno=None):
        if (family, type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))
        super().__init__(family, type, proto, fileno)

    def getsockopt(self, level, option, length=0):
        if (level, option, self.family) == (0, 1, socket.AF_UNIX):
            _, uid, gid = struct.unpack("3i", super().getsockopt(socket.SOL_SOCKET, PEERCRED, 12))
            return struct.pack("=IIhxxi60x", 0, uid, 1, gid)[:length]
        return super().getsockopt(level, option, length) if length else super().getsockopt(level, option)


F_GETPATH, CONTROL, NAME_OF, PEERCRED = 50, fcntl.fcntl, os.readlink, socket.SO_PEERCRED
sysconfig.get_config_vars()  # its file is named after the real platform
sys.platform = "darwin"
scproxy = types.ModuleType("_scproxy")  # urllib.request asks it for proxies on macOS
scproxy._get_proxy_settings = lambda: {"exclude_simple": False}
scproxy._get_proxies = lambda: {}
sys.modules["_scproxy"] = scproxy
NAMES = os.uname()
os.uname = lambda: os.uname_result(("Darwin", NAMES.nodename, "25.0.0", "Darwin Kernel Version 25.0.0", "arm64"))
for module, names in LINUX_ONLY.items():
    for name in names.split():
        vars(module).pop(name, None)
for name in ("stat", "lstat", "readlink", "access"):
    setattr(os, name, hidden(getattr(os, name)))
fcntl.F_GETPATH, fcntl.fcntl, socket.socket = F_GETPATH, control, Socket
os.supports_dir_fd |= {os.stat, os.access, os.readlink}
os.supports_fd |= {os.stat}
os.supports_follow_symlinks |= {os.stat, os.access}
del selectors.EpollSelector
selectors.DefaultSelector = selectors.PollSelector
sys.addaudithook(refuse)

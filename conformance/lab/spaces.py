"""Where a lab lives: network and mount namespaces of its own, held by one process.

The holder has its own user namespace too when it isn't root, so a lab needs no privilege where the kernel
grants user namespaces. Its mount namespace hides the host's /run, so the lab's named network namespaces
(/run/netns/NAME) are its own: labs side by side, and the host, can't see or disturb one another. When the
holder dies, the kernel takes the namespaces away.
"""
import contextlib, ctypes, json, os, signal, subprocess, time

NEWNS, NEWUSER, NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
libc = ctypes.CDLL(None, use_errno=True)
# Inside a user namespace getuid() says 0: what the first process computed is handed down.
DIR = os.environ.setdefault("NATLAB_DIR", f"/tmp/natlab-{os.getuid()}")


class LabError(Exception):
    """A problem to tell the user about, without a traceback."""


class Impossible(LabError):
    """This machine can't have a lab."""


def libc_call(name, *args):
    if getattr(libc, name)(*args):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def mount(source, target, kind=None, flags=0):
    libc_call("mount", source.encode(), target.encode(), kind and kind.encode(), flags, None)


# ------------------------------------------------------------------ making a place
def isolate():
    """Moves this process into fresh namespaces, with its own empty /run."""
    uid, gid = os.getuid(), os.getgid()
    try:
        if uid:
            raise PermissionError
        libc_call("unshare", NEWNET | NEWNS)
    except PermissionError:
        as_root_of_a_user_namespace(uid, gid)
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    resolver = os.path.realpath("/etc/resolv.conf")              # often a link into /run
    mount("tmpfs", "/run", "tmpfs")
    os.makedirs("/run/netns")
    resolve_with("", resolver)


def as_root_of_a_user_namespace(uid, gid):
    try:
        libc_call("unshare", NEWUSER | NEWNET | NEWNS)
    except OSError as error:
        raise Impossible(f"no namespaces for a laboratory: {error} (needs root, or unprivileged user namespaces: sysctl "
                       "user.max_user_namespaces > 0, kernel.unprivileged_userns_clone=1, "
                       "kernel.apparmor_restrict_unprivileged_userns=0)") from None
    for path, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{path}", "w") as f:
            f.write(text)


def resolve_with(text, path=os.path.realpath("/etc/resolv.conf")):
    """Gives the lab its own resolv.conf; the host's name servers can't be reached from here anyway."""
    with open("/run/resolv.conf", "w") as f:
        f.write(text)
    if path.startswith("/run/") and not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").close()
    if os.path.exists(path):
        mount("/run/resolv.conf", path, None, MS_BIND)


# ------------------------------------------------------------------ going there
def setns(fd, kind):
    libc_call("setns", fd, kind)
    os.close(fd)


def join(lab):
    """Moves this process into a lab's own namespaces, from where `enter` and `inside` lead to its nodes."""
    home = f"/proc/{lab['holder']}/ns"
    kinds = [("user", NEWUSER), ("mnt", NEWNS), ("net", NEWNET)]
    if os.readlink(f"{home}/user") == os.readlink("/proc/self/ns/user"):
        del kinds[0]
    here, doors = os.getcwd(), [(os.open(f"{home}/{name}", os.O_RDONLY), kind) for name, kind in kinds]
    for door, kind in doors:
        setns(door, kind)
    with contextlib.suppress(OSError):
        os.chdir(here)


def enter(node):
    try:
        setns(os.open(f"/run/netns/{node}", os.O_RDONLY), NEWNET)
    except FileNotFoundError:
        raise LabError(f"no host {node!r} in the lab") from None


@contextlib.contextmanager
def inside(node):
    """Runs the body in a node's network namespace; child processes inherit it."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        enter(node)
        yield
    finally:
        setns(home, NEWNET)


# ------------------------------------------------------------------ what is known about a lab
def state_path(name):
    return f"{DIR}/{name}.json"


def save(lab):
    os.makedirs(DIR, mode=0o700, exist_ok=True)
    if os.stat(DIR).st_uid != os.getuid():
        raise LabError(f"{DIR} belongs to somebody else")
    path = state_path(lab["lab"])
    with open(path + ".new", "w") as f:
        json.dump(lab, f, indent=1)
    os.replace(path + ".new", path)


def load(name):
    """The state of a lab that is up; what a dead one left behind is removed."""
    try:
        with open(state_path(name)) as f:
            if os.fstat(f.fileno()).st_uid != os.getuid():
                raise LabError(f"{f.name} belongs to somebody else")
            lab = json.load(f)
    except FileNotFoundError:
        raise LabError(f"lab {name!r} is not up") from None
    if birth(lab["holder"]) != lab["born"]:
        forget(lab)
        raise LabError(f"lab {name!r} is not up: its holder, process {lab['holder']}, is gone")
    return lab


def forget(lab):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(state_path(lab["lab"]))


def birth(pid):
    """When a process began, in clock ticks since boot: together with the PID it names a process for good."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return int(f.read().rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return None


# ------------------------------------------------------------------ processes and commands
def inhabitants():
    """PIDs of whatever else lives in this lab's network namespaces. Only from inside the lab."""
    inodes = {os.stat(entry.path).st_ino for entry in os.scandir("/run/netns")}
    pids = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}/ns/net").st_ino in inodes:
                pids.add(int(pid))
    return pids - {os.getpid()}


def end_inhabitants():
    for sig, patience in ((signal.SIGTERM, 1.5), (signal.SIGKILL, 1.5)):
        for pid in (pids := inhabitants()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)
        deadline = time.monotonic() + patience
        while pids and inhabitants() and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
            time.sleep(0.02)


def feed(text, *argv):
    done = subprocess.run(argv, input=text, text=True, capture_output=True)
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip()}\n--- its input ---\n{text}")


def ip(*lines):
    feed("\n".join(lines) + "\n", "ip", "-batch", "-")


def sysctl(*settings):
    for path, value in (s.split("=") for s in settings):
        with contextlib.suppress(FileNotFoundError), open("/proc/sys/net/" + path, "w") as f:
            f.write(value)

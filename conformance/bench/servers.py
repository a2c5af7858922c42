"""The programs that are measured, each with its processor time and memory."""
import glob, os, re, signal, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.realpath(__file__))
TICK = os.sysconf("SC_CLK_TCK")


class Server:
    """One or more programs that serve together, with their CPU time and memory."""

    def __init__(self, name, ready, *commands, core=None):
        self.name, self.folder = name, tempfile.mkdtemp(prefix="bench-")
        self.log = open(f"{self.folder}/log", "w")
        pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
        self.processes = []
        for command, port in zip(commands, ready):
            argv = [word.replace("$RUN", self.folder) for word in command]
            self.processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, preexec_fn=pin))
            self.wait_for(port)

    def wait_for(self, port):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.processes[-1].poll() is None:
            with open(f"/proc/{self.processes[-1].pid}/net/udp") as f:
                if f":{port:04X} " in f.read():
                    return
            time.sleep(0.05)
        self.stop()
        with open(f"{self.folder}/log") as f:
            sys.exit(f"bench: {self.name} does not listen on UDP {port}:\n{f.read()[-2000:]}")

    def family(self):
        parents = {}
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(path) as f:
                    parents[int(path.split("/")[2])] = int(f.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
        found = {p.pid for p in self.processes}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    def cpu(self):
        """Seconds of processor time so far."""
        ticks = 0
        for pid in self.family():
            with open(f"/proc/{pid}/stat") as f:
                fields = f.read().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICK

    def memory(self, kind="Pss"):
        """MiB of all its processes: of proportional set size, or of another line of the kernel's account."""
        total = 0
        for pid in self.family():
            with open(f"/proc/{pid}/smaps_rollup") as f:
                total += int(re.search(rf"^{kind}:\s+(\d+)", f.read(), re.M)[1])
        return total / 1024

    def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.log.close()


def kamailio(*more, config="kamailio.cfg"):
    return ["kamailio", "-f", f"{HERE}/{config}", "-Y", "$RUN", "-P", "$RUN/pid", "-DD", "-E", "-m", "64", "-M", "8", *more]


def rtpengine(address, threads, ports=(30000, 39999)):
    return ["rtpengine", "--config-file=none", "--foreground", "--log-stderr", "--log-level=3", "--table=-1", f"--interface={address}",
            "--listen-ng=127.0.0.1:2223", f"--port-min={ports[0]}", f"--port-max={ports[1]}", "--timeout=60", "--delete-delay=0", f"--num-threads={threads}"]


def postern(binary, config):
    return [binary, "run", "-c", config]

"""sipp's load: calls through a proxy, and phones that register (used by `bench` and `train`)."""
import csv, signal, subprocess, tempfile, time

from calls import End, Prober
from scale import PROBES
from servers import HERE

QUIET = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
SHARED = ["-i", "127.0.0.1", "-nostdin", "-buff_size", "4000000", "-trace_stat", "-fd", "1"]
PROXY = "127.0.0.1:5060"


def run_scenario(folder, scenario, count, rate, *more, patience):
    """sipp's counters, at the latest when so many seconds have passed since the last began: what never ended is not among the successful."""
    try:
        subprocess.run(["sipp", "-sf", f"{HERE}/{scenario}", "-p", "5080", "-m", str(count), "-r", str(rate), "-l", "20000", "-stf", "caller.csv",
                        *more, *SHARED, PROXY], timeout=count / rate + patience, cwd=folder, **QUIET)
    except subprocess.TimeoutExpired:
        pass
    return last_row(f"{folder}/caller.csv")


def place_calls(calls, rate):
    """sipp against sipp, and a prober beside them for the set-up time."""
    with tempfile.TemporaryDirectory(prefix="sipp-") as folder:
        callee = subprocess.Popen(["sipp", "-sf", f"{HERE}/uas.xml", "-p", "5070", "-stf", "callee.csv", *SHARED, "127.0.0.1"], cwd=folder, **QUIET)
        time.sleep(0.3)
        prober = Prober(End("127.0.0.1", 5081, ("127.0.0.1", 5060)), PROBES)
        prober.start()
        try:
            stats = run_scenario(folder, "uac.xml", calls, rate, "-s", "callee", patience=40)
        finally:
            times = prober.stop()
            callee.send_signal(signal.SIGKILL)
            callee.wait()
        answered = last_row(f"{folder}/callee.csv")
    failed = calls - int(stats["SuccessfulCall(C)"]) + times.count(float("inf"))
    return {"p50": quantile(times, 0.5), "p99": quantile(times, 0.99), "failed": failed, "placed": calls + len(times),
            "again": int(stats["Retransmissions(C)"]) + int(answered["Retransmissions(C)"])}


def refuse_calls(calls, rate):
    """Calls to a callee that is not there. How many were refused with 503, the only end but an answer that this scenario knows."""
    with tempfile.TemporaryDirectory(prefix="sipp-") as folder:
        return int(run_scenario(folder, "uac-overload.xml", calls, rate, "-s", "callee", patience=40)["SuccessfulCall(C)"])


def place_registrations(users, count, rate):
    """How many fail, of phones that the file `users.csv` in this folder names."""
    with tempfile.TemporaryDirectory(prefix="sipp-") as folder:
        stats = run_scenario(folder, "register.xml", count, rate, "-inf", f"{users}/users.csv", patience=60)
    return count - int(stats["SuccessfulCall(C)"])


def last_row(path):
    with open(path) as f:
        return list(csv.DictReader(f, delimiter=";"))[-1]


def quantile(values, q):
    return values[min(len(values) - 1, int(len(values) * q))] if values else float("nan")

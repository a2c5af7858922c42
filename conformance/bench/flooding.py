"""A relay whose ports are flooded: what its calls lose, what it costs, whom it answers, and how long signalling takes meanwhile.

The flood is made on one core, and what it costs until a packet is queued, or dropped, is spent there, too. The relay and the calls' RTP
share the other one, so that the calls' packets meet no full queue on their way but the relay's own.
"""
import os, re, subprocess, tempfile, threading, time

import spaces
from calls import End
from ng import Ng
from relaying import LOAD, RELAY, loss, on_last_core, relay_candidates, warm, with_sessions
from scale import FLOODED, FLOOD_SECONDS, SESSIONS

# Live calls that are flooded, live ones that are not, and ones whose parties have not spoken yet, flooded as well.
CALLS, RATE = SESSIONS // 2, 50 * 2 * SESSIONS
STRANGERS = "10.77.0.128/25"


def measure_floods(args, wire):
    build(wire)
    with spaces.inside("load"):
        spaces.ip(*(f"addr add 10.77.0.{129 + n}/24 dev load0" for n in range(8)))
    found = {}
    for name, start, sessions in relay_candidates(args):
        found[name] = with_sessions(start, sessions, SESSIONS + CALLS, lambda stream: measure(wire, stream))
        print(f"flood     {name:<22} {found[name]}", flush=True)
    return found


def build(wire):
    wire.tools["flood"] = f"{os.path.dirname(wire.tools['rtpgen'])}/flood"
    subprocess.run(["cc", "-O2", "-w", "-o", wire.tools["flood"], f"{os.path.dirname(os.path.realpath(__file__))}/flood.c"], check=True)


def measure(wire, stream):
    flooded, calm, waiting = stream.flows[:2 * CALLS], stream.flows[2 * CALLS:2 * SESSIONS], stream.flows[2 * SESSIONS:]
    stream.flows = flooded + calm
    warm(wire, stream, RATE)
    before, cpu, began = stream.server.memory("Rss"), stream.server.cpu(), time.monotonic()
    asker = Asker(stream.server)
    asker.start()
    with spaces.inside("load"), tempfile.NamedTemporaryFile("w", suffix=".targets") as targets:
        targets.write("".join(f"{ip} {port}\n" for _, ip, port in flooded + waiting))
        targets.flush()
        count()
        flood = subprocess.Popen([wire.tools["flood"], targets.name, str(FLOOD_SECONDS + 1), "0", STRANGERS.rpartition(".")[0]], stdout=subprocess.PIPE, text=True, preexec_fn=on_last_core)
        time.sleep(0.5)
        sent = offer_beside(wire, stream)
        text = flood.communicate()[0]
        time.sleep(0.3)
        arrived = counted()
    took, used = time.monotonic() - began, stream.server.cpu() - cpu
    each = sent / len(stream.flows)
    return {"bad": int(re.search(r"= (\d+) pps", text)[1]), "lost": loss(each * len(flooded), arrived["flooded"]), "calm": loss(each * len(calm), arrived["calm"]),
            "strangers": arrived["strangers"], "passed": arrived["passed"], "cpu": 100 * used / took, "before": before, "after": stream.server.memory("Rss"), "answers": asker.stop()}


def offer_beside(wire, stream):
    """The calls' RTP, made on the relay's core."""
    with tempfile.NamedTemporaryFile("w", suffix=".flows") as f:
        f.write("".join(f"{source} {ip} {port}\n" for source, ip, port in stream.flows))
        f.flush()
        done = subprocess.run([wire.tools["rtpgen"], f.name, str(RATE), str(FLOOD_SECONDS), "172", LOAD, str(stream.sequence)], capture_output=True, text=True, check=True,
                              preexec_fn=lambda: os.sched_setaffinity(0, {0}))
    return int(re.search(r"sent (\d+)", done.stdout)[1])


def count():
    """What comes back, by whom it is for. A call's ports are 20000 + 4n and 20002 + 4n; those who have not spoken come last, and what
    they get is a stranger's."""
    first, second = 20000 + 4 * CALLS, 20000 + 4 * SESSIONS
    spaces.feed("flush ruleset\ntable ip sink { counter flooded {}; counter calm {}; counter strangers {}; counter passed {}; chain in { type filter hook prerouting priority -300; "
                f"ip saddr {RELAY} ip daddr {STRANGERS} udp sport 12000-39999 counter name strangers drop; "
                f"ip saddr {RELAY} udp dport 20000-{first - 1} counter name flooded drop; ip saddr {RELAY} udp dport {first}-{second - 1} counter name calm drop; "
                f"ip saddr {RELAY} udp dport {second}-29999 counter name passed drop; }}; }}\n", "nft", "-f", "-")


def counted():
    listing = subprocess.run(["nft", "list", "counters"], capture_output=True, text=True).stdout
    return {name: int(packets) for name, packets in re.findall(r"counter (\w+) {\s+packets (\d+)", listing)}


class Asker(threading.Thread):
    """Asks the relay's signalling something ten times a second: milliseconds to each answer, infinite for none."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.times, self.over = [], threading.Event()
        self.ask = self.ping if server.name == "rtpengine" else self.options
        self.ng = Ng(("127.0.0.1", 2223)) if server.name == "rtpengine" else None
        self.end = None if self.ng else End(RELAY, 5081, (RELAY, 5060))

    def ping(self):
        self.ng.call(command="ping")

    def options(self):
        call = f"flood{len(self.times)}"
        self.end.send(f"OPTIONS sip:{RELAY}:5060 SIP/2.0", f"Via: SIP/2.0/UDP {RELAY}:5081;branch=z9hG4bK{call}", "Max-Forwards: 70", f"From: <sip:a@{RELAY}>;tag=a", f"To: <sip:{RELAY}>",
                      f"Call-ID: {call}", "CSeq: 1 OPTIONS")
        self.end.wait("SIP/2.0", call)

    def run(self):
        while not self.over.wait(0.1):
            began = time.perf_counter()
            try:
                self.ask()
                self.times.append((time.perf_counter() - began) * 1000)
            except (TimeoutError, AssertionError):
                self.times.append(float("inf"))

    def stop(self):
        """How many were asked, and the slowest answer."""
        self.over.set()
        self.join()
        (self.ng.socket if self.ng else self.end.socket).close()
        return len(self.times), max(self.times, default=float("nan"))


def flood_table(floods):
    lines = ["## Flooded ports", "", f"{SESSIONS} calls that talk (50 packets a second each way), {CALLS} of them flooded, and {CALLS} whose parties have not spoken, flooded as well: noise, RTP of",
             f"strangers, STUN with forged names, large, empty and oversized packets from 8 addresses, as many as one core makes, for {FLOOD_SECONDS} s. *Sent to strangers*: packets they got back; *passed on*: what parties got of them.",
             "*CPU*: the relay's, of one core, over the run; what the kernel drops before the relay reads it is spent on the flood's core.", "",
             "| | bad packets/s offered | loss of flooded calls, % | of the others, % | sent to strangers | passed on | CPU, % | resident before, MiB | after | slowest answer of signalling, ms |", "|---" * 10 + "|"]
    for name, r in floods.items():
        if r:
            lines.append(f"| {name} | {r['bad']} | {r['lost']:.2f} | {r['calm']:.2f} | {r['strangers']} | {r['passed']} | {r['cpu']:.0f} | {r['before']:.1f} | {r['after']:.1f} | {r['answers'][1]:.1f} of {r['answers'][0]} |")
    return lines + ["", f"Goal: no loss at {FLOODED} bad packets a second, nothing for strangers, and memory as before.", ""]

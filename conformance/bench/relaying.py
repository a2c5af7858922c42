"""RTP through a relay: what a packet costs, how long it takes, and from which rate on some are lost.

A generator in a network namespace of its own offers packets over a veth pair; what the relay sends back is counted where it arrives.
"""
import os, re, subprocess, tempfile, time

import spaces
from calls import Pair
from ng import Ng, media, sdp
from scale import BRIDGED, CROWD, CROWD_RATE, LAG_RATES, LOST, PACKET, RATES, SECONDS, SESSIONS
from servers import HERE, TICK, Server, postern, rtpengine

ROOT = os.path.dirname(os.path.dirname(HERE))
RELAY, LOAD = "10.77.0.1", "10.77.0.2"
SUITE, KEY = "AES_CM_128_HMAC_SHA1_80", "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"         # RFC 4568's example


# ------------------------------------------------------------------ the wire
def loss(sent, arrived):
    """Percent. Not below nothing: a few packets of the moment before are counted on arrival, and where the load ends in the
    middle of a round the first flows have sent one more than the average."""
    return max(0.0, 100 * (1 - arrived / sent))


class Wire:
    """The veth pair, and the programs at its far end."""

    def __init__(self, folder):
        self.tools = {name: f"{folder}/{name}" for name in ("rtpgen", "rtplag", "bare")}
        for name, tool in self.tools.items():
            subprocess.run(["cc", "-O2", "-w", "-o", tool, f"{HERE}/{name}.c"], check=True)

    def up(self):
        spaces.ip("netns add load", "link add relay0 type veth peer name load0 netns load", f"addr add {RELAY}/24 dev relay0",
                  "link set relay0 up gso_max_segs 1")            # what leaves as one message for many datagrams is cut before the wire
        with spaces.inside("load"):
            spaces.ip("link set lo up", f"addr add {LOAD}/24 dev load0", "link set load0 up")
            count_and_drop()

    def offer(self, flows, rate, seconds, sequence=0):
        """How many packets were sent."""
        with tempfile.NamedTemporaryFile("w", suffix=".flows") as f:
            f.write("".join(f"{source} {ip} {port}\n" for source, ip, port in flows))
            f.flush()
            done = subprocess.run([self.tools["rtpgen"], f.name, str(rate), str(seconds), str(PACKET), LOAD, str(sequence)],
                                  capture_output=True, text=True, check=True, preexec_fn=on_last_core)
        return int(re.search(r"sent (\d+)", done.stdout)[1])

    def in_vain(self, rate, sessions):
        """Busy seconds of the machine for each packet that is made and dropped as it arrives."""
        spaces.feed("table ip unheard { chain in { type filter hook prerouting priority -300; iif relay0 udp dport 30000-39999 drop; }; }\n", "nft", "-f", "-")
        with spaces.inside("load"):
            before = busy()
            sent = self.offer([(20000 + 2 * n, RELAY, 30000 + 2 * n) for n in range(2 * sessions)], rate, SECONDS)
            used = busy() - before
        subprocess.run(["nft", "delete", "table", "ip", "unheard"], check=True)
        return used / sent


def on_last_core():
    os.sched_setaffinity(0, {os.cpu_count() - 1})


def count_and_drop():
    """What a relay sends back is counted where it arrives and goes no further: the relay is measured alone."""
    spaces.feed("flush ruleset\ntable ip sink { chain in { type filter hook prerouting priority -300; "
                f"ip saddr {RELAY} udp dport 20000-29999 counter drop; }}; }}\n", "nft", "-f", "-")


def arrived():
    listing = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout
    return int(re.search(r"counter packets (\d+)", listing)[1])


def busy():
    """Seconds all processors have not been idle, nor another machine's: the kernel takes both by the clock, and anything else by samples."""
    with open("/proc/stat") as f:
        words = f.readline().split()
    return time.monotonic() * os.cpu_count() - sum(int(words[field]) for field in (4, 5, 8)) / TICK       # idle, iowait, steal


# ------------------------------------------------------------------ candidates
class Stream:
    """A relay's sessions: where their parties send, and how far their packets have been numbered."""

    def __init__(self, server, flows):
        self.server, self.flows, self.sequence = server, flows, 0

    def offer(self, wire, rate, seconds):
        with spaces.inside("load"):
            sent = wire.offer(self.flows, rate, seconds, self.sequence)
        self.sequence = (self.sequence + sent // len(self.flows) + 1) & 0xffff      # the streams go on, they don't begin anew
        return sent

    def push(self, wire, rate, seconds=SECONDS):
        """Processor time a packet, of the relay and of the machine, and what was lost."""
        with spaces.inside("load"):
            count_and_drop()
            before, machine = self.server.cpu(), busy()
            sent = self.offer(wire, rate, seconds)
            time.sleep(0.2)
            used, whole, passed = self.server.cpu() - before, busy() - machine, arrived()
        return {"cpu_us": used / max(passed, 1) * 1e6, "machine_us": whole / max(passed, 1) * 1e6, "loss": loss(sent, passed), "offered": sent / seconds}

    def lag(self, wire, rate):
        """Microseconds from a packet's making to its arrival: p50, p99, p99.9."""
        with spaces.inside("load"):
            spaces.feed("flush ruleset\n", "nft", "-f", "-")
            receiver = subprocess.Popen([wire.tools["rtplag"], LOAD, "3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=on_last_core)
            receiver.stdin.write("".join(f"{source}\n" for source, *_ in self.flows))
            receiver.stdin.close()
            receiver.stdout.readline()
            self.offer(wire, rate, 2)
            words = receiver.stdout.read().split()
            receiver.wait()
            count_and_drop()
        return [float(word) for word in words[1:]]


def rtpengine_sessions(count):
    ng, flows = Ng(("127.0.0.1", 2223)), []
    for n in range(count):
        ports, words = (20000 + 4 * n, 20002 + 4 * n), dict(call_id=f"bench{n}", from_tag="a", replace=["origin", "session-connection"], ICE="remove")
        offer = ng.call(command="offer", sdp=sdp(LOAD, ports[0]), **words)
        answer = ng.call(command="answer", to_tag="b", sdp=sdp(LOAD, ports[1]), **words)
        flows += [(ports[0], *media(answer["sdp"])), (ports[1], *media(offer["sdp"]))]
    return flows, lambda: None


def bridged_sessions(count):
    """Callers that speak RTP, with callees that speak SRTP: where the callers send."""
    ng, flows = Ng(("127.0.0.1", 2223)), []
    for n in range(count):
        ports, words = (20000 + 4 * n, 20002 + 4 * n), dict(call_id=f"bridge{n}", from_tag="a", replace=["origin", "session-connection"], ICE="remove")
        offer = ng.call(command="offer", sdp=sdp(LOAD, ports[0]), **words, transport_protocol="RTP/SAVP", DTLS="off")
        tag = re.search(rf"^a=crypto:(\d+) {SUITE} ", offer["sdp"].decode(), re.M)[1]
        secure = sdp(LOAD, ports[1]).replace("RTP/AVP", "RTP/SAVP") + f"a=crypto:{tag} {SUITE} inline:{KEY}\r\n"
        answer = ng.call(command="answer", to_tag="b", sdp=secure, **words, transport_protocol="RTP/AVP")
        flows.append((ports[0], *media(answer["sdp"])))
    # Postern waits for sessions that are up before it ends.
    return flows, lambda: [ng.call(command="delete", call_id=f"bridge{n}", from_tag="a") for n in range(count)]


def postern_sessions(count):
    with spaces.inside("load"):
        pair = Pair(LOAD, (RELAY, 5060))
    flows = []
    for n in range(count):
        ports = 20000 + 4 * n, 20002 + 4 * n
        flows += [(port, *where) for port, where in zip(ports, pair.call(*ports))]
    return flows, pair.hang_up


def bare_sessions(count):
    return [(20000 + 2 * n, RELAY, 30000 + 2 * n) for n in range(2 * count)], lambda: None


def relay_candidates(args):
    yield "rtpengine", lambda: Server("rtpengine", [2223], rtpengine(RELAY, 1), core=0), rtpengine_sessions
    if args.postern:
        folder = tempfile.mkdtemp(prefix="bench-")
        with open(f"{ROOT}/configs/load-test-anchored.yaml") as f:
            text = f.read().replace("127.0.0.1:5070", f"{LOAD}:5070").replace("127.0.0.1", RELAY)
        for name, more in {"Postern": "", "Postern, kernel path": "  kernel-path: true\n"}.items():
            path = f"{folder}/relay{len(more)}.yaml"
            with open(path, "w") as f:
                f.write(text.replace("\nrelay:\n", f"\nrelay:\n{more}"))
            yield name, lambda path=path: Server("Postern", [5060], postern(args.postern, path), core=0), postern_sessions


def bridge_candidates(args):
    yield "rtpengine", lambda: Server("rtpengine", [2223], rtpengine(RELAY, 1), core=0), bridged_sessions
    if args.postern:
        folder = tempfile.mkdtemp(prefix="bench-")
        with open(f"{ROOT}/configs/ng.yaml") as f:
            text = f.read().replace("bind: 127.0.0.1", f"bind: {RELAY}")
        with open(f"{folder}/bridge.yaml", "w") as f:
            f.write(text)
        yield "Postern", lambda: Server("Postern", [2223], postern(args.postern, f"{folder}/bridge.yaml"), core=0), bridged_sessions


def with_sessions(start, sessions, count, measure):
    """What `measure` finds of a relay with so many sessions that have been heard; `None` when it does not come to that."""
    server = start()
    try:
        flows, end = sessions(count)
        found = measure(Stream(server, flows))
        end()
        return found
    except (TimeoutError, subprocess.CalledProcessError) as error:
        print(f"relay     failed: {error}", flush=True)
        return None
    finally:
        server.stop()


# ------------------------------------------------------------------ what is measured
def measure_relays(args, wire):
    results = {"rates": rates(args, wire), "crowd": crowd(args, wire), "bridge": bridge(args, wire)}
    bare = lambda: Server("bare", [30000], [wire.tools["bare"], RELAY, "30000", str(SESSIONS)], core=0)
    results["bare"] = with_sessions(bare, bare_sessions, SESSIONS, lambda stream: warm(wire, stream) or {rate: stream.lag(wire, rate) for rate in LAG_RATES})
    print(f"relay     bare forwarder: {results['bare']}", flush=True)
    return results | saturate(args, wire)


def warm(wire, stream, rate=2000):
    """The parties are heard, and what the kernel can carry is handed to it."""
    stream.offer(wire, rate, 3)


def beside_vain(args, wire, rate, count, measure):
    """Each relay's name and outcome. Packets are made in vain before, between and after, while no relay runs: a machine that drifts,
    drifts for all, and an arrival and a drop by such a rule are in both."""
    vain = wire.in_vain(rate, count)
    for name, start, sessions in relay_candidates(args):
        outcome = with_sessions(start, sessions, count, measure)
        before, vain = vain, wire.in_vain(rate, count)
        if outcome:
            outcome["machine_us"] -= (before + vain) / 2 * 1e6 / max(1 - outcome["loss"] / 100, 1e-6)
        yield name, outcome


def rates(args, wire):
    found = {}
    for rate in RATES:

        def measure(stream):
            warm(wire, stream)
            outcome = stream.push(wire, rate)
            return outcome | ({"lag": stream.lag(wire, rate)} if rate in LAG_RATES else {})

        for name, outcome in beside_vain(args, wire, rate, SESSIONS, measure):
            found.setdefault(name, {})[rate] = outcome
            print(f"relay     {name:<22} {rate:>7} packets/s: {outcome}", flush=True)
    return found


def crowd(args, wire):
    """Many legs that talk as phones do, from the start: one that says less is not worth handing to the kernel."""
    found, measure = {}, lambda stream: warm(wire, stream, CROWD_RATE) or stream.push(wire, CROWD_RATE)
    for name, outcome in beside_vain(args, wire, CROWD_RATE, CROWD, measure):
        found[name] = outcome
        print(f"relay     {name:<22} {CROWD} sessions, {CROWD_RATE} packets/s: {outcome}", flush=True)
    return found


def bridge(args, wire):
    found = {}
    for name, start, sessions in bridge_candidates(args):
        found[name] = with_sessions(start, sessions, SESSIONS, lambda stream: warm(wire, stream) or stream.push(wire, BRIDGED))
        print(f"relay     {name:<22} RTP into SRTP, {BRIDGED} packets/s: {found[name]}", flush=True)
    return found


def saturate(args, wire):
    """The rate from which rtpengine loses packets, and what the others lose at one and a half times that."""
    (_, start, sessions), *ours = relay_candidates(args)

    def search(stream):
        warm(wire, stream)
        rate, outcome = 60000, stream.push(wire, 60000, 1)
        while outcome["loss"] < LOST and rate < 200000:
            rate = int(rate * 1.12)
            outcome = stream.push(wire, rate, 1.5)
        return int(outcome["offered"])

    begins = with_sessions(start, sessions, SESSIONS, search) or 0
    print(f"relay     rtpengine loses packets from {begins} a second on", flush=True)
    found = {}
    for name, start, sessions in ours:
        found[name] = with_sessions(start, sessions, SESSIONS, lambda stream: warm(wire, stream) or stream.push(wire, begins * 3 // 2))
        print(f"relay     {name:<22} {begins * 3 // 2} packets/s: {found[name]}", flush=True)
    return {"begins": begins, "beyond": found}

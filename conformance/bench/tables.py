"""RESULTS.md: what a run of `bench` measured, as tables."""
import os, platform, re, subprocess, sys, time
import held
from flooding import flood_table
from scale import BRIDGED, CROWD, CROWD_RATE, HELD, LAG_RATES, LOST, PACKET, PROBES, RATES, SECONDS, SESSIONS, SET_UP

HERE = os.path.dirname(os.path.realpath(__file__))


def report(args, calls, relays, floods, registrations, sessions):
    """Writes what this run measured; what it did not stays as an earlier run found it, with that run's date and machine."""
    when = f"Measured {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())} on {machine()}."
    head = ["# Postern beside Kamailio and rtpengine", "", f"By `make bench`, last as `conformance/bench/bench {' '.join(sys.argv[1:])}`. Written by the run; "
            "ratios of one run count, absolute figures drift.", "", *versions(args), ""]
    lines = []
    for mode, table in calls.items():
        lines += call_table(args, mode, table)
    if registrations:
        lines += registration_table(args, registrations)
    if relays:
        lines += relay_table(relays)
    if floods:
        lines += flood_table(floods)
    if sessions:
        lines += held_table(sessions)
    if not args.postern:
        head += ["**Postern was not measured: no binary at target/release/postern.**", ""]
    new = {heading: [heading, "", when, *body] for heading, body in sections(lines)}
    path = f"{HERE}/RESULTS.md"
    with open(path) as f:
        old = {heading: [heading, *body] for heading, body in sections(f.read().splitlines())}
    for body in (old | new).values():
        head += [*body, ""] if body[-1] else body
    with open(path, "w") as f:
        f.write("\n".join(head).rstrip() + "\n")
    print("\n".join(head))


def sections(lines):
    """Headings, and the lines below each."""
    at = [n for n, line in enumerate(lines) if line.startswith("## ")]
    return [(lines[n], lines[n + 1:end]) for n, end in zip(at, [*at[1:], len(lines)])]


def machine():
    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*:\s*(.*)", f.read())
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}"


def versions(args):
    versions = [first_line("kamailio", "-v"), first_line("rtpengine", "--version"), first_line("sipp", "-v")]
    if args.postern:
        versions.insert(0, first_line(args.postern, "--version"))
    return [f"- {v}" for v in versions if v]


def first_line(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "")


def ratio(ours, theirs):
    return f"{ours / theirs:.2f}" if theirs else "–"


def call_table(args, mode, table):
    words = {"plain": "media goes direct", "anchored": "media anchored at a relay"}[mode]
    goal = {"plain": 3, "anchored": 4}[mode]
    yardstick = next(v for k, v in table.items() if k.startswith("Kamailio"))
    lines = [f"## Calls, {words}", "", f"{args.calls} calls a round at {args.rate}/s, {args.rounds} rounds by turns, medians; sipp on loopback, set-up times from {PROBES} probe calls/s beside it.", "",
             "| | CPU a call, µs | ratio | memory, MiB | setup p50, ms | p99, ms | failed | retransmitted |", "|---|---|---|---|---|---|---|---|"]
    lines += [f"| {name} | {r['cpu_us']:.0f} | {ratio(r['cpu_us'], yardstick['cpu_us'])} | {r['memory']:.1f} | {r['p50']:.2f} | {r['p99']:.2f} | {r['failed']} | {r['again']} |"
              for name, r in table.items()]
    return lines + ["", "A busy Postern lets datagrams gather for up to a millisecond and a half: it saves wake-ups, and is in the set-up time of each hop.",
                    "", f"Goal: at most 1/{goal} of Kamailio's CPU a call.", ""]


def registration_table(args, measured):
    table, seconds = measured["rates"], args.calls / args.rate
    lines = ["## Registrations with digest", "", f"{seconds:g} s of registrations (401, then 200) at each rate, {args.rounds} rounds by turns, medians; bindings in memory.", "",
             "| registrations/s | | CPU a registration, µs | a CPU second | times Kamailio's | memory, MiB | failed |", "|---|---|---|---|---|---|---|"]
    for (rate, name), r in table.items():
        theirs = table[rate, "Kamailio"]["cpu_us"]
        lines.append(f"| {rate} | {name} | {r['cpu_us']:.0f} | {1e6 / r['cpu_us']:.0f} | {theirs / r['cpu_us']:.2f} | {r['memory']:.1f} | {r['failed']} |")
    lines += ["", "Goal: at least 4 times as many a CPU second."]
    for name, held in measured["held"].items():
        lines += ["", f"{name} holds {held['bound']} bindings of as many accounts in {held['after']:.1f} MiB ({held['before']:.1f} MiB with the accounts alone). Goal: below 100 MB."]
    return lines + [""]


def relay_table(relays):
    names = list(relays["rates"])
    lines = ["## Relayed packets", "", f"{SESSIONS} sessions, both directions, {PACKET} bytes of RTP, {SECONDS} s a rate; relay pinned to one core, generator to another.",
             "*process*: CPU time of the relay a packet. *machine*: busy time of all processors a packet, interrupts included, time the hypervisor took not,",
             "less that of the same packets dropped as they arrive while no relay runs, before and after. What is relayed is dropped as it arrives, too, by",
             "such a rule, so what the kernel does for the relay is in it, from a packet's coming to its going, and what its recipient would do is not.", "", *cost_head("packets/s offered", names)]
    lines += [cost_row(rate, [table[rate] for table in relays["rates"].values()]) for rate in RATES]
    lines += ["", "Goals: at most 0.5 of rtpengine's CPU a packet at 100,000/s; by the kernel path at most 0.1.", "",
              f"The same with many legs: {CROWD} sessions, each leg {CROWD_RATE // (2 * CROWD)} packets a second.", "", *cost_head("sessions", names),
              cost_row(CROWD, list(relays["crowd"].values())), "",
              f"Packets are lost: by rtpengine from {relays['begins']} a second on (more than {LOST} %). At one and a half times that:", "",
              "| | packets/s offered | loss, % |", "|---|---|---|"]
    lines += [f"| {name} | {r['offered']:.0f} | {r['loss']:.2f} |" for name, r in relays["beyond"].items() if r]
    lines += ["", "Goal: no loss.", "", f"RTP into SRTP (AES_CM_128_HMAC_SHA1_80, keys by SDES), {BRIDGED} packets/s, one direction:", "",
              "| | process, µs a packet | ratio | loss, % |", "|---|---|---|---|"]
    bridged = {name: r or FAILED for name, r in relays["bridge"].items()}
    lines += [f"| {name} | {r['cpu_us']:.2f} | {ratio(r['cpu_us'], bridged['rtpengine']['cpu_us'])} | {r['loss']:.2f} |" for name, r in bridged.items()]
    return lines + ["", *lag_table(relays), ""]


FAILED = {"cpu_us": float("nan"), "machine_us": float("nan"), "loss": 100, "offered": 0}


def cost_head(what, names):
    head = f"| {what} | " + " | ".join(f"{n}: process, µs | machine, µs | loss, %" for n in names) + " | process ratio | kernel path: machine ratio |"
    return [head, "|---" * (3 * len(names) + 3) + "|"]


def cost_row(what, cells):
    cells = [cell or FAILED for cell in cells]
    process = ratio(cells[1]["cpu_us"], cells[0]["cpu_us"]) if len(cells) > 1 else "–"
    machine = ratio(cells[-1]["machine_us"], cells[0]["machine_us"]) if len(cells) > 1 else "–"
    return f"| {what} | " + " | ".join(f"{c['cpu_us']:.2f} | {c['machine_us']:.2f} | {c['loss']:.2f}" for c in cells) + f" | {process} | {machine} |"


def lag_table(relays):
    """Where a packet's time goes that nobody relays is the same for all: the bare forwarder is the yardstick."""
    tables = {"a bare forwarder": relays["bare"] or {}}
    tables |= {name: {rate: (table[rate] or {}).get("lag") for rate in LAG_RATES} for name, table in relays["rates"].items()}
    lines = ["From a packet's making to its arrival at the other party, by the kernel's clock. *A bare forwarder*: one thread, `recvfrom`, `sendto`.", "",
             "| µs | " + " | ".join(f"{rate}/s: p50 | p99 | p99.9" for rate in LAG_RATES) + " |", "|---" * (3 * len(LAG_RATES) + 1) + "|"]
    for name, table in tables.items():
        cells = [f"{value:.0f}" for rate in LAG_RATES for value in (table.get(rate) or [float("nan")] * 3)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines + ["", "From 10,000 packets a second on a relay lets them gather for half a millisecond, from 64,000 on for a whole one: it saves wake-ups, and nobody hears it."]


def pace(r):
    return f"{r['seconds']:.2f}" if "seconds" in r else ""


def held_table(sessions):
    lines = ["## Sessions held", "", f"Offer and answer over ng, {held.WINDOW} commands under way at most, one client; then as many sessions as `nofile` allows, {HELD} at most, while nobody talks,",
             f"for Postern {held.REST} s after the last command. *Slabs*: what the kernel's memory for objects (sockets, files) grew by meanwhile, of the whole machine.",
             "*rtcp-mux*: offered and answered, so that a session has two ports in place of four; made by and by, as ports that are given back rest.", "",
             "| | set up | in s | held | resident, MiB | empty, MiB | a session, kB | kernel's slabs, MiB | descriptors |", "|---|---|---|---|---|---|---|---|---|"]
    lines += [f"| {name} | {r.get('set_up', '')} | {pace(r)} | {r['count']} | {r['resident']:.1f} | {r['before']:.1f} | {(r['resident'] - r['before']) * 1048.576 / r['count']:.1f} | {r['slabs']:.1f} | {r['descriptors']} |"
              for name, r in sessions.items()]
    return lines + ["", f"Goals: {SET_UP} sessions in at most 2 s; {HELD} in at most 60 MB.", ""]

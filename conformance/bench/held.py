"""Sessions by the thousand, made over ng as fast as they are answered: how long it takes, and what they cost while nobody talks."""
import os, re, time
from ng import Ng, encode, sdp

WINDOW = 32
# Answers are remembered for repetitions for a while; nobody counts what has just happened as idle.
REST = 40
# How long ports rest that calls with rtcp-mux give back once they are answered.
QUARANTINE, AT_ONCE = 6, 800


def commands(numbers, lines=""):
    """Offer and answer of each of these sessions, behind their cookies."""
    for n in numbers:
        words = {"call-id": f"held{n}", "from-tag": "a", "replace": ["origin", "session-connection"], "ICE": "remove"}
        yield b"%do " % n + encode(words | {"command": "offer", "sdp": sdp("127.0.0.1", 4000) + lines})
        yield b"%da " % n + encode(words | {"command": "answer", "to-tag": "b", "sdp": sdp("127.0.0.1", 4002) + lines})


def set_up(address, numbers, lines=""):
    """Seconds until the last of these sessions is answered; no more than WINDOW commands are under way."""
    words, ng = list(commands(numbers, lines)), Ng(address)
    began = time.monotonic()
    for sent, word in enumerate(words):
        if sent >= WINDOW:
            accepted(ng)
        ng.socket.send(word)
    for _ in range(min(WINDOW, len(words))):
        accepted(ng)
    return time.monotonic() - began


def set_up_muxed(address, count):
    """Sessions with rtcp-mux, by and by: until it is answered one has a port more than the two it keeps, which then rests and serves the
    next ones."""
    for first in range(0, count, AT_ONCE):
        set_up(address, range(first, min(first + AT_ONCE, count)), "a=rtcp-mux\r\n")
        time.sleep(QUARANTINE)


def accepted(ng):
    answer = ng.socket.recv(65535)
    if b"6:result2:ok" not in answer:
        raise ValueError(f"a session was refused: {answer[:300]}")


def cost(server):
    """What the processes hold: MiB resident, descriptors; and MiB of the kernel's slabs, of the whole machine."""
    resident = descriptors = 0
    for pid in server.family():
        with open(f"/proc/{pid}/smaps_rollup") as f:
            resident += int(re.search(r"^Rss:\s+(\d+)", f.read(), re.M)[1])
        descriptors += len(os.listdir(f"/proc/{pid}/fd"))
    with open("/proc/meminfo") as f:
        slabs = int(re.search(r"^Slab:\s+(\d+)", f.read(), re.M)[1])
    return {"resident": resident / 1024, "descriptors": descriptors, "slabs": slabs / 1024}

"""SIP callers and callees through a proxy, as little of them as measuring takes (used by `bench`)."""
import re, secrets, socket, threading, time

from ng import media, sdp


def header(message, name):
    return re.findall(rf"^{name}:\s*(.*?)\r$", message, re.M | re.I)


def message(start, *lines, body=""):
    kind = ["Content-Type: application/sdp"] if body else []
    return "\r\n".join([start, *lines, *kind, f"Content-Length: {len(body)}", "", body]).encode()


class End:
    """A UDP socket that speaks SIP with one proxy."""

    def __init__(self, local, port, proxy):
        self.local, self.port, self.proxy = local, port, proxy
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((local, port))
        self.socket.settimeout(0.5)

    def send(self, *lines, body=""):
        self.socket.sendto(message(*lines, body=body), self.proxy)

    def wait(self, start, call_id, after=""):
        """The next message that begins so, of this call; of a response, the one to the method `after`, if one is named."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                text = self.socket.recv(65535).decode(errors="replace")
            except TimeoutError:
                continue
            if text.startswith(start) and call_id in text and all(after in line for line in header(text, "CSeq")):
                return text
        raise TimeoutError(f"no {start} arrived: the proxy did not pass it on")


class Call:
    """The caller's half of one call."""

    def __init__(self, end, media_port):
        self.end, self.id = end, secrets.token_hex(12)
        self.fixed = [f"From: <sip:caller@example.test>;tag={secrets.token_hex(4)}", f"Call-ID: {self.id}", "Max-Forwards: 70"]
        end.send(f"INVITE sip:callee@{end.proxy[0]}:{end.proxy[1]} SIP/2.0", self.via(), *self.fixed, "To: <sip:callee@example.test>",
                 "CSeq: 1 INVITE", f"Contact: <sip:caller@{end.local}:{end.port}>", body=sdp(end.local, media_port))

    def via(self):
        return f"Via: SIP/2.0/UDP {self.end.local}:{self.end.port};rport;branch=z9hG4bK{secrets.token_hex(8)}"

    def established(self):
        ok = self.end.wait("SIP/2.0 200", self.id)
        self.target = re.search(r"<(.*?)>", header(ok, "Contact")[0])[1]
        routes = [route for line in header(ok, "Record-Route") for route in line.split(",")]
        self.fixed += [f"To: {header(ok, 'To')[0]}", *(f"Route: {route.strip()}" for route in reversed(routes))]
        return ok

    def acknowledge(self):
        self.end.send(f"ACK {self.target} SIP/2.0", self.via(), *self.fixed, "CSeq: 1 ACK")

    def bye(self):
        self.end.send(f"BYE {self.target} SIP/2.0", self.via(), *self.fixed, "CSeq: 2 BYE")


def reply(end, request, media_port=None):
    """200 to what a callee received."""
    copied = [f"{name}: {value}" for name in ("Via", "Record-Route", "From", "Call-ID", "CSeq") for value in header(request, name)]
    to = header(request, "To")[0]
    to += "" if ";tag=" in to else f";tag={secrets.token_hex(4)}"
    end.send("SIP/2.0 200 OK", *copied, f"To: {to}", f"Contact: <sip:callee@{end.local}:{end.port}>",
             body=sdp(end.local, media_port) if media_port else "")


class Pair:
    """A caller at LOCAL:5080 and a callee at LOCAL:5070, for calls that stay up while their relay is measured."""

    def __init__(self, local, proxy):
        self.caller, self.callee = End(local, 5080, proxy), End(local, 5070, proxy)
        self.up = []

    def call(self, caller_port, callee_port):
        """Sets one call up. Returns where the caller and the callee are told to send their media."""
        call = Call(self.caller, caller_port)
        invite = self.callee.wait("INVITE", call.id)
        reply(self.callee, invite, callee_port)
        ok = call.established()
        call.acknowledge()
        self.callee.wait("ACK", call.id)
        self.up.append(call)
        return media(ok), media(invite)

    def hang_up(self):
        for call in self.up:
            call.bye()
            reply(self.callee, self.callee.wait("BYE", call.id))
            self.caller.wait("SIP/2.0 200", call.id)
        self.up.clear()


class Prober(threading.Thread):
    """Places a few calls a second beside the load and takes the time from INVITE to 200: sipp's own clock ticks in 4 ms."""

    def __init__(self, end, per_second):
        super().__init__(daemon=True)
        self.end, self.pause, self.times, self.over = end, 1 / per_second, [], threading.Event()

    def run(self):
        while not self.over.wait(self.pause):
            self.times.append(self.probe())

    def probe(self):
        """One call; milliseconds to its 200, infinite when the call did not come about or did not end: a failed call."""
        began = time.perf_counter()
        call = Call(self.end, 6000)
        try:
            call.established()
            took = (time.perf_counter() - began) * 1000
            call.acknowledge()
            call.bye()
            self.end.wait("SIP/2.0 200", call.id, after="BYE")
        except TimeoutError:
            return float("inf")
        return took

    def stop(self):
        self.over.set()
        self.join()
        self.end.socket.close()
        return sorted(self.times)

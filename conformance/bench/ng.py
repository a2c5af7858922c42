"""A minimal client of the rtpengine `ng` control protocol: bencoded dictionaries over UDP, each behind a cookie."""
import itertools, os, re, socket


def encode(x):
    if isinstance(x, int):
        return b"i%de" % x
    if isinstance(x, str):
        x = x.encode()
    if isinstance(x, bytes):
        return b"%d:%s" % (len(x), x)
    if isinstance(x, (list, tuple)):
        return b"l" + b"".join(map(encode, x)) + b"e"
    return b"d" + b"".join(encode(k) + encode(x[k]) for k in sorted(x)) + b"e"


def decode(b, i=0):
    """The value that begins at `i`, and where it ends."""
    kind = b[i:i + 1]
    if kind == b"i":
        end = b.index(b"e", i)
        return int(b[i + 1:end]), end + 1
    if kind in b"ld":
        i, items = i + 1, []
        while b[i:i + 1] != b"e":
            value, i = decode(b, i)
            items.append(value)
        return (items if kind == b"l" else dict(zip((k.decode() for k in items[::2]), items[1::2]))), i + 1
    colon = b.index(b":", i)
    end = colon + 1 + int(b[i:colon])
    return b[colon + 1:end], end


class Ng:
    def __init__(self, address):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(address)
        self.socket.settimeout(3)
        self.count = itertools.count()

    def call(self, **words):
        cookie = b"%d_%d" % (os.getpid(), next(self.count))
        self.socket.send(cookie + b" " + encode({k.replace("_", "-"): v for k, v in words.items()}))
        got, body = self.socket.recv(65535).split(b" ", 1)
        assert got == cookie
        return decode(body)[0]


def sdp(ip, port):
    return (f"v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 8 101\r\n"
            "a=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n")


def media(text):
    """Address and port of the first stream."""
    text = text.decode() if isinstance(text, bytes) else text
    return re.search(r"^c=IN IP4 (\S+)", text, re.M)[1], int(re.search(r"^m=audio (\d+)", text, re.M)[1])

"""Phones that register with digest, by the hundred at once."""
import hashlib, re

from scale import PHONES
from servers import Server, postern


def user(n):
    return f"phone{n:06}"


def write_users(folder, count=PHONES):
    """So many, for Postern's configuration and for sipp."""
    with open(f"{folder}/users.yaml", "w") as f:
        f.writelines(f"- {{ name: {user(n)}, password: secret }}\n" for n in range(count))
    with open(f"{folder}/users.csv", "w") as f:
        f.write("SEQUENTIAL\n" + "".join(f"{user(n)};[authentication username={user(n)} password=secret]\n" for n in range(count)))


def registrar(binary, folder):
    """Postern with its bindings in memory, and the users that were written to this folder."""
    with open(f"{folder}/registrar.yaml", "w") as f:
        f.write("listeners: [{ address: \"udp:127.0.0.1:5060\" }]\ndomains: [bench.test]\nusers: users.yaml\nproxy: {}\n"
                f"node-key: 0123456789abcdef\nlog: warn\ncontrol: {folder}/bench.sock\n")
    return Server("Postern", [5060], postern(binary, f"{folder}/registrar.yaml"))


def register_some(end, numbers):
    """Registers these phones, all at once; a nonce serves as often as it is counted on."""
    if not hold_nonce:
        end.send(*register_lines(numbers[0], 1, ""))
        hold_nonce.append(re.search(r'nonce="([^"]+)"', end.wait("SIP/2.0 401", "hold-"))[1])
    for n in numbers:
        end.send(*register_lines(n, 2, credentials(user(n), hold_nonce[0], n + 1)))
    bound = 0
    try:
        while bound < len(numbers):
            answer = end.socket.recv(65535)
            if answer.startswith(b"SIP/2.0 200"):
                bound += 1
            elif b"stale=true" in answer:
                hold_nonce[:] = [re.search(r'nonce="([^"]+)"', answer.decode())[1]]
                n = int(re.search(rb"Call-ID: hold-(\d+)", answer)[1])
                end.send(*register_lines(n, 3, credentials(user(n), hold_nonce[0], n + 1)))
    except TimeoutError:
        pass
    return bound


hold_nonce = []


def register_lines(n, cseq, authorization):
    name = user(n)
    return (f"REGISTER sip:bench.test SIP/2.0", f"Via: SIP/2.0/UDP 127.0.0.1:5081;branch=z9hG4bKhold{n}-{cseq};rport",
            f"From: <sip:{name}@bench.test>;tag=h{n}", f"To: <sip:{name}@bench.test>", f"Call-ID: hold-{n}", f"CSeq: {cseq} REGISTER",
            f"Contact: <sip:{name}@127.0.0.1:5081>", "Expires: 3600", "Max-Forwards: 70", "User-Agent: Example Phone 1.2.3", *([authorization] if authorization else []))


def credentials(name, nonce, count):
    md5 = lambda text: hashlib.md5(text.encode()).hexdigest()
    nc, uri = f"{count:08x}", "sip:bench.test"
    response = md5(":".join((md5(f"{name}:bench.test:secret"), nonce, nc, "0123", "auth", md5(f"REGISTER:{uri}"))))
    return (f'Authorization: Digest username="{name}", realm="bench.test", nonce="{nonce}", uri="{uri}", response="{response}", '
            f'algorithm=MD5, cnonce="0123", qop=auth, nc={nc}')

"""Cables, addresses and routes of a lab: from its description to links that carry packets.

    inet       a bridge, the "internet": 198.51.100.0/24, 203.0.113.0/24, 2001:db8::/64, 2001:db8:0:1::/64
    r-SITE     a site's router: wan0 towards the internet (or into the LAN of the site it is behind), lan0 a bridge
    x-SITE     only with delay: the two cable ends between which natwire holds packets back
"""
import os, subprocess

from nat import apply_nat
from spaces import LabError, inside, ip, save, sysctl

HERE = os.path.dirname(os.path.realpath(__file__))
NETS = ("198.51.100", "203.0.113")
NETS6 = ("2001:db8::", "2001:db8:0:1::")


def build(lab):
    ip(*(f"netns add {n}" for n in nodes(lab)),
       *(f"link add {a_if} netns {a} type veth peer name {b_if} netns {b}" for a, a_if, b, b_if in cables(lab)))
    internet(lab)
    for host in lab["public"]:
        setup(lab, host["name"], "link set eth0 up", *public_addresses(host))
    for index, site in enumerate(lab["sites"]):
        router(lab, index, site)
        for host in site["hosts"]:
            private_host(lab, site, host)
    for site in lab["sites"]:
        if site["delay"]:
            hold_back(lab, site)


def nodes(lab):
    found = ["inet"] + [h["name"] for h in lab["public"]]
    for site in lab["sites"]:
        found += ["r-" + site["name"]] + ["x-" + site["name"]] * bool(site["delay"])
        found += [h["name"] for h in site["hosts"] if h["dev"] == "eth0"]
    return found


def cables(lab):
    """Every cable is born with both ends in place: (node, interface, node, interface)."""
    for i, host in enumerate(lab["public"]):
        yield host["name"], "eth0", "inet", f"h{i}"
    for i, site in enumerate(lab["sites"]):
        name = site["name"]
        for j, host in enumerate(site["hosts"]):
            yield host["name"], host["dev"], f"r-{name}", f"l{j}"
        if site["type"] == "lan":
            continue
        above = f"r-{site['behind']}" if site["behind"] else "inet"
        if site["delay"]:
            yield f"r-{name}", "wan0", f"x-{name}", "in"
            yield f"x-{name}", "out", above, f"s{i}"
        else:
            yield f"r-{name}", "wan0", above, f"s{i}"


def setup(lab, node, *lines, sysctls=()):
    with inside(node):
        on = "0" if lab["ipv6"] else "1"
        interfaces = os.listdir("/proc/sys/net/ipv6/conf") if os.path.isdir("/proc/sys/net/ipv6/conf") else []
        sysctl(*(f"ipv6/conf/{i}/{key}" for i in interfaces for key in (f"disable_ipv6={on}", "accept_dad=0", "accept_ra=0")),
               "bridge/bridge-nf-call-iptables=0", "ipv4/conf/all/send_redirects=0", "ipv4/conf/default/send_redirects=0",
               *sysctls)
        ip("link set lo up", *lines)


def internet(lab):
    """One bridge; what belongs nowhere vanishes silently."""
    ports = [f"h{i}" for i in range(len(lab["public"]))]
    ports += [f"s{i}" for i, s in enumerate(lab["sites"]) if s["type"] != "lan" and not s["behind"]]
    routes6 = [f"route add {s['lan6']}/64 via {outermost(lab, s)['wan6']}" for s in lab["sites"] if s["lan6"] and s["wan6"]]
    setup(lab, "inet", "link add br0 type bridge", "link set br0 up", "route add blackhole default",
          *(f"link set {p} master br0 up" for p in ports), *(f"addr add {net}.1/24 dev br0" for net in NETS),
          *([f"addr add {net}1/64 dev br0 nodad" for net in NETS6] + routes6 + ["route add blackhole ::/0"]) * lab["ipv6"],
          sysctls=["ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1"])


def outermost(lab, site):
    while site["behind"]:
        site = find_site(lab, site["behind"])
    return site


def find_site(lab, name):
    for site in lab["sites"]:
        if site["name"] == name:
            return site
    raise LabError(f"no site {name!r}")


def public_addresses(host):
    four, six = [a for a in host["addrs"] if ":" not in a], [a for a in host["addrs"] if ":" in a]
    lines = [f"addr add {a}/32 dev eth0" for a in four] + (internet_routes("eth0", four[0]) if four else [])
    lines += [f"addr add {a}/128 dev eth0 nodad" for a in six]
    return lines + (internet_routes6("eth0", six[0]) if six else [])


def internet_routes(dev, source):
    return [f"route replace {net}.0/24 dev {dev} src {source}" for net in NETS] + [
        f"route replace default via {NETS[0]}.1 dev {dev} src {source}"]


def internet_routes6(dev, source):
    return [f"route replace {net}/64 dev {dev} src {source}" for net in NETS6] + [
        f"route replace ::/0 via {NETS6[0]}1 dev {dev} src {source}"]


def router(lab, index, site):
    name, is_lan = site["name"], site["type"] == "lan"
    inner = [(i, s) for i, s in enumerate(lab["sites"]) if s["behind"] == name]
    lines = ["link add lan0 type bridge", "link set lan0 up", f"addr add {site['lan']}.1/24 dev lan0"]
    lines += [f"link set l{j} master lan0 up" for j in range(len(site["hosts"]))]
    lines += [f"link set s{i} master lan0 up" for i, _ in inner]
    lines += [f"addr add {site['lan6']}1/64 dev lan0 nodad"] * bool(site["lan6"])
    lines += [f"route add {s['lan6']}/64 via {s['wan6']}" for _, s in inner if s["lan6"]]
    if not is_lan:
        lines += [f"link set wan0 mtu {site['mtu']} up", *uplink(lab, site, site["addr"])]
    if site["type"] == "none":
        lines += [f"route add {h['addr']} dev lan0" for h in site["hosts"]]
    setup(lab, f"r-{name}", *lines, sysctls=["ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1",
                                             f"ipv4/conf/wan0/proxy_arp={int(site['type'] == 'none')}"])
    apply_nat(site)


def uplink(lab, site, addr):
    """Addresses and routes of a router's WAN side."""
    if not site["behind"]:
        lines = [f"addr replace {addr}/32 dev wan0", *internet_routes("wan0", addr)]
        if site["wan6"]:
            lines += [f"addr replace {site['wan6']}/128 dev wan0 nodad", *internet_routes6("wan0", site["wan6"])]
        return lines
    above = find_site(lab, site["behind"])
    lines = [f"addr replace {addr}/24 dev wan0", f"route replace default via {above['lan']}.1 dev wan0 src {addr}"]
    if site["wan6"]:
        lines += [f"addr replace {site['wan6']}/64 dev wan0 nodad", f"route replace ::/0 via {above['lan6']}1 dev wan0"]
    return lines


def private_host(lab, site, host):
    routed, dev = site["type"] == "none", host["dev"]
    lines = [f"link set {dev} up", f"addr add {host['addr']}/{32 if routed else 24} dev {dev}"]
    if site["type"] != "lan":
        lines.append(f"route replace default via {site['lan']}.1 dev {dev} onlink")
    if host["addr6"]:
        lines += [f"addr add {host['addr6']}/64 dev {dev} nodad", f"route replace ::/0 via {site['lan6']}1 dev {dev}"]
    setup(lab, host["name"], *lines)


def hold_back(lab, site):
    wire = subprocess.Popen([f"{HERE}/natwire", lab["lab"], site["name"]], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    lab["wires"][site["name"]] = wire.pid
    save(lab)
    if wire.stdout.readline() != b"ready\n":
        raise LabError(f"the wire of site {site['name']!r} did not start: {wire.stderr.read().decode().strip()}")


def move_wan(lab, site, addr):
    """Roaming: another WAN address, the old one gone."""
    old, size = site["addr"], 24 if site["behind"] else 32
    setup(lab, f"r-{site['name']}", *uplink(lab, site, addr), f"addr del {old}/{size} dev wan0", *uplink(lab, site, addr))
    site["addr"] = addr

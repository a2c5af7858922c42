"""The NAT and firewall of a site's router, as one nftables ruleset.

Mapping:   the kernel picks the outer port of an inner endpoint's first packet, at random; @out remembers it
           (for adm: per destination; for apdm: not at all) and gives it to the endpoint's next flows, until
           nothing was sent for `timeout` seconds. A chain behind srcnat learns it into the maps.
Filtering: conntrack lets in what was sent to (apdf). @in leads an outer port back to its inner endpoint for
           other peers: all (eif), or those in @allow (adf).
Uninvited packets die in `input`, unconfirmed, so they never spoil a later hole punch: if the router took them, the
later outbound packet would get another port. With `poisons` it does take them, and picks the inner port where it is
free, which is what an ordinary Linux router does.
"""
import socket, struct

from spaces import LabError, feed, inside, sysctl

TYPES = {"full-cone": "eim+eif", "address-restricted": "eim+adf", "port-restricted": "eim+apdf",
         "symmetric": "apdm+apdf", "none": "none", "udp-blocked": "udp-blocked", "lan": "lan"}
UDP_OUT = "iifname lan0 meta l4proto udp"
COUNTED = 2000                                                    # ports of a NAT that counts, before it begins again


def apply_nat(site, forget=False):
    """Loads a site's rules into its router; `forget` also ends every mapping and connection."""
    if site["type"] == "lan":
        return
    with inside("r-" + site["name"]):
        sysctl(*(f"netfilter/nf_conntrack_udp_timeout{s}={site['timeout']}" for s in ("", "_stream")))
        if forget:                                                # silence, lest a passing packet save its mapping
            feed("flush ruleset\ntable inet hush { chain in { type filter hook prerouting priority -500; "
                 "policy drop; }; }\n", "nft", "-f", "-")
            flush_conntrack()
        feed(ruleset(site), "nft", "-f", "-")


def flush_conntrack():
    """Deletes every conntrack entry of the current namespace (IPCTNL_MSG_CT_DELETE without a tuple)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:      # NETLINK_NETFILTER
        sock.send(struct.pack("=IHHII4x", 20, 0x102, 5, 1, 0))
        code, = struct.unpack_from("=i", sock.recv(4096), 16)
        if code:
            raise OSError(-code, "conntrack flush")


def ruleset(site):
    return "\n".join(["flush ruleset", *wire(site), *firewall6(site), *nat4(site)]) + "\n"


def chain(name, hook, *rules, policy="accept"):
    return [f" chain {name} {{ type {hook}; policy {policy};", *(f"  {r}" for r in rules if r), " }"]


def wire(site):
    """What happens to packets before a NAT sees them: some are lost, some had too short a life for the way."""
    loss = site["loss"] and f"numgen random mod 10000 < {round(site['loss'] * 100)} drop"
    far = site["hops"] and f"iifname wan0 ip ttl <= {site['hops']} drop"
    if not (loss or far):
        return []
    come, go = (loss and f"{way} wan0 {loss}" for way in ("iifname", "oifname"))
    return ["table inet wire {", *chain("come", "filter hook prerouting priority -500", far, come),
            *chain("go", "filter hook postrouting priority 500", go), "}"]


def firewall6(site):
    """IPv6 has no NAT: what wasn't asked for from inside stays outside (RFC 6092), or everything passes."""
    if site["ipv6"] != "stateful":
        return []
    errors = "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept"
    return ["table ip6 firewall {",
            *chain("input", "filter hook input priority filter", "iifname wan0 meta l4proto != icmpv6 drop"),
            *chain("forward", "filter hook forward priority filter", "ct state established,related accept",
                   "iifname lan0 accept", errors, policy="drop"), "}"]


def nat4(site):
    kind, addr = TYPES.get(site["type"], site["type"]), site["addr"]
    if kind in ("none", "lan"):
        return []
    mapping, _, filtering = kind.partition("+")
    tables, learn, known = memory(site, mapping, filtering)
    inner, poisons = site.get("dmz_addr"), site["poisons"]
    if poisons and (kind, site["ports"]) != ("eim+apdf", "preserve"):
        raise LabError(f"site {site['name']!r}: only eim+apdf with ports=preserve can be poisoned")
    to_inner = "dnat ip to udp dport map @in"
    return ["table ip natlab {", *tables, *alg(site),
            *chain("input", "filter hook input priority filter", poisons and "iifname wan0 meta l4proto udp accept",
                   "iifname wan0 ip protocol != icmp drop"),
            *(chain("output", "filter hook output priority filter", "icmp type destination-unreachable drop") if poisons else []),
            *chain("forward", "filter hook forward priority filter", "ct state established,related accept",
                   f"iifname lan0 {'tcp dport { 443, 5061 } ' * (kind == 'udp-blocked')}accept",
                   "iifname wan0 ct status dnat accept", policy="drop"),
            *chain("srcnat", "nat hook postrouting priority srcnat",
                   inner and f"iifname lan0 ip saddr {inner} snat ip to {addr}", not poisons and known,
                   *new_ports(site), f"iifname lan0 snat ip to {addr}"),
            *chain("learn", "filter hook postrouting priority srcnat + 1", *learn),
            *chain("dstnat", "nat hook prerouting priority dstnat",
                   {"eif": f"iifname wan0 {to_inner}",
                    "adf": f"iifname wan0 udp dport . ip saddr @allow {to_inner}"}.get(filtering),
                   f"iifname lan0 ip daddr {addr} {to_inner}" if site["hairpin"] else None,
                   inner and f"iifname wan0 ip daddr {addr} dnat ip to {inner}"), "}"]


def new_ports(site):
    """The rules that give an inner endpoint's first packet its outer port; without any, the inner port is kept."""
    addr, any_of = site["addr"], {"random": "10000-59999", "block": "20480-20991", "sequential": "10000-59999"}
    if site["ports"] == "preserve":
        return []
    rules = [f"iifname lan0 meta l4proto {{ tcp, udp }} snat ip to {addr}:{any_of[site['ports']]} fully-random"]
    if site["ports"] == "sequential":
        counted = ", ".join(f"{n} : {30000 + n}" for n in range(COUNTED))
        rules.insert(0, f"{UDP_OUT} snat ip to {addr} : numgen inc mod {COUNTED} map {{ {counted} }}")
    return rules


def memory(site, mapping, filtering):
    """The maps and sets that make endpoint-independent behaviour, the rules that fill them, and the one that uses @out.

    `learn` sees packets after SNAT; who sent this one is in the tuple of its own direction.
    """
    addr, tables, known = site["addr"], [], None
    learn = ["update @in { udp sport : ct %s ip saddr . ct %s proto-src }"]

    def table(what, name, types):
        tables.append(f" {what} {name} {{ type {types}; flags dynamic,timeout; timeout {site['timeout']}s; size 65535; }}")

    table("map", "in", "inet_service : ipv4_addr . inet_service")
    if mapping in ("eim", "adm"):
        by_dest = mapping == "adm"
        table("map", "out", f"ipv4_addr . inet_service {'. ipv4_addr' * by_dest} : inet_service")
        learn.append(f"update @out {{ ct %s ip saddr . ct %s proto-src {'. ip daddr' * by_dest} : udp sport }}")
        known = f"{UDP_OUT} snat ip to {addr} : ip saddr . udp sport {'. ip daddr' * by_dest} map @out"
    if filtering == "adf":
        table("set", "allow", "inet_service . ipv4_addr")
        learn.append("update @allow { udp sport . ip daddr }")
    rules = [f"{UDP_OUT} ct direction {d} {rule.replace('%s', d)}" for d in ("original", "reply") for rule in learn]
    return tables, rules, known


def alg(site):
    """The kernel's own SIP ALG: it rewrites Via, Contact and SDP of plain SIP on port 5060."""
    if not site["alg"]:
        return []
    helpers = [f' ct helper sip-{p} {{ type "sip" protocol {p}; }}' for p in ("udp", "tcp")]
    return helpers + chain("alg", "filter hook prerouting priority filter",
                           *(f'{p} dport 5060 ct helper set "sip-{p}"' for p in ("udp", "tcp")))

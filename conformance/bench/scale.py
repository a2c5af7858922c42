"""How much of what is measured: what a run does, and what its tables say of it."""
RATES = (5000, 20000, 50000, 100000)
SESSIONS, PACKET, SECONDS, PROBES = 20, 172, 4, 50
# Legs that talk as phones do: two thousand of them, 50 packets a second each.
CROWD, CROWD_RATE = 1000, 100_000
LAG_RATES, BRIDGED, LOST = (5000, 50000), 20_000, 0.5
PHONES = 100_000
REGISTERING = (2000, 4000)
FLOODED, FLOOD_SECONDS = 1_000_000, 6
SET_UP, HELD = 5000, 10_000

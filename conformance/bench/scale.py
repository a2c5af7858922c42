"""How much of what is measured: what a run does, and what its tables say of it."""
RATES = (5000, 20000, 50000, 100000, 150000)
SESSIONS, PACKET, SECONDS, PROBES = 20, 172, 4, 50
PHONES = 100_000
SET_UP, HELD = 5000, 10_000

//! endpoint-sim

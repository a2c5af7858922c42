//! Which core a thread that carries media stays on.

/// With fewer cores than this a pinned thread would mostly wait for whoever else runs on its core.
const CORES_TO_PIN: usize = 4;

/// The core of a lane that carries media: counted from the last one this process may use, away from interrupts.
pub(super) fn core_for(lane: usize) -> Option<nix::sched::CpuSet> {
    let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).ok()?;
    let cores: Vec<usize> =
        (0..nix::sched::CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true)).collect();
    if cores.len() < CORES_TO_PIN {
        return None;
    }
    let mut one = nix::sched::CpuSet::new();
    one.set(cores[cores.len() - 1 - lane % cores.len()]).ok()?;
    Some(one)
}

/// Keeps the calling thread on a core.
pub(super) fn pin(core: &nix::sched::CpuSet) {
    if let Err(error) = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), core) {
        tracing::debug!(%error, "a media thread could not be pinned");
    }
}

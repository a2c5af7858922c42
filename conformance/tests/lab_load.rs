//! Load on sockets: sipp against sipp through `configs/load-test.yaml` and `configs/load-test-anchored.yaml`, the very
//! files, on the loopback of a namespace of its own. No call fails and no port stays held.
//!
//! `cargo test` places few enough calls that a busy machine passes, too, and forgives a retransmission: how fast the
//! machine is proves nothing. `make load` places 10,000 at 500 a second at the optimised binary, and forgives none.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use conformance::lab::{Lab, PATIENCE, Process, postern};

/// One load at a time: each wants the whole machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Calls, calls a second, and whether nothing may be sent twice.
fn dose() -> (u32, u32, bool) {
    if std::env::var_os("POSTERN_FULL_LOAD").is_some() { (10_000, 500, true) } else { (1_500, 100, false) }
}

/// The last line of sipp's statistics, by column.
fn statistics(path: &std::path::Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = text.lines();
    let names = lines.next().unwrap_or_default().split(';');
    let values = lines.next_back().unwrap_or_default().split(';');
    names.map(str::to_owned).zip(values.map(str::to_owned)).collect()
}

fn count(statistics: &BTreeMap<String, String>, name: &str) -> u32 {
    statistics
        .get(name)
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("sipp did not count {name}"))
}

struct Load {
    postern: Process,
    config: PathBuf,
    lab: Lab,
    _turn: MutexGuard<'static, ()>,
}

impl Load {
    fn on(config: &str) -> Option<Load> {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let lab = Lab::up("-p here")?;
        let config = PathBuf::from(format!("{}/../configs/{config}", env!("CARGO_MANIFEST_DIR")));
        let mut postern = lab.spawn("here", &[postern(), "run", "-c", &config.to_string_lossy()]);
        postern.wait_for("ready: listening", PATIENCE);
        Some(Load { postern, config, lab, _turn: turn })
    }

    fn sipp(&self, name: &str, argv: &[&str]) -> (Process, std::path::PathBuf) {
        let statistics = self.lab.scratch().join(format!("{name}.csv"));
        let path = statistics.to_string_lossy();
        let fixed = [
            "sipp",
            "-i",
            "127.0.0.1",
            "-nostdin",
            "-buff_size",
            "4000000",
            "-trace_stat",
            "-fd",
            "1",
            "-stf",
            &path,
        ];
        (self.lab.spawn("here", &[&fixed[..], argv].concat()), statistics.clone())
    }

    /// KiB resident once every transaction of the calls so far is forgotten (64·T1 is 32 s).
    fn resident(&self) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.lab.transactions("here", &self.config) > 0 {
            assert!(Instant::now() < deadline, "transactions outlive 64·T1");
            std::thread::sleep(Duration::from_secs(1));
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.postern.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it runs");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    /// Places calls between a caller's and a callee's scenario and checks both sides' books.
    fn carries(&self, caller: &[&str], callee: &[&str]) {
        let (calls, rate, strict) = dose();
        let (mut answering, answered) = self.sipp("callee", &[callee, &["-p", "5070"]].concat());
        answering.wait_for_port("sipp", 5070, PATIENCE);
        let (calls_text, rate_text) = (calls.to_string(), rate.to_string());
        let more = [
            "-p",
            "5080",
            "-s",
            "callee",
            "-m",
            &calls_text,
            "-r",
            &rate_text,
            "-l",
            "20000",
            "127.0.0.1:5060",
        ];
        let (mut calling, called) = self.sipp("caller", &[caller, &more].concat());
        let status = calling.wait(Duration::from_secs(u64::from(calls / rate) + 90));
        std::thread::sleep(Duration::from_millis(1200)); // the callee's last statistics
        let (called, answered) = (statistics(&called), statistics(&answered));
        let again = count(&called, "Retransmissions(C)") + count(&answered, "Retransmissions(C)");
        let failed = (count(&called, "FailedCall(C)"), count(&answered, "FailedCall(C)"));
        assert_eq!(
            (status.code(), count(&called, "SuccessfulCall(C)"), failed),
            (Some(0), calls, (0, 0)),
            "exit code, successful, failed at both ends"
        );
        assert!(!strict || again == 0, "{again} messages were sent again");
    }
}

fn bench(name: &str) -> String {
    format!("{}/bench/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn sipps_calls_pass_without_a_failure() {
    let Some(load) = Load::on("load-test.yaml") else { return };
    load.carries(&["-sf", &bench("uac.xml")], &["-sf", &bench("uas.xml")]);
}

#[test]
fn scenario_1g_anchored_calls_leave_no_port_held() {
    let Some(load) = Load::on("load-test-anchored.yaml") else { return };
    load.carries(&["-sf", &bench("uac.xml")], &["-sf", &bench("uas.xml")]);
    load.lab.nothing_stays_lent("here", &load.config);
}

#[test]
fn sipps_own_scenarios_which_follow_no_route_set_pass_too() {
    let Some(load) = Load::on("load-test.yaml") else { return };
    load.carries(&["-sn", "uac"], &["-sn", "uas"]);
}

/// `make load` only: the calls of a second load find their memory in what the first one's left behind. A tenth more is
/// what allocators keep here and there; one KiB a call would be twice that.
#[test]
fn a_second_load_needs_no_more_memory_than_the_first() {
    if std::env::var_os("POSTERN_FULL_LOAD").is_none() {
        return;
    }
    for config in ["load-test.yaml", "load-test-anchored.yaml"] {
        let Some(load) = Load::on(config) else { return };
        let [first, second] = [1, 2].map(|_| {
            load.carries(&["-sf", &bench("uac.xml")], &["-sf", &bench("uas.xml")]);
            load.resident()
        });
        println!("{config}: {first} KiB after a load, {second} KiB after the next");
        assert!(first > 8 << 10 && second <= first + first / 10, "{config}: {first} KiB, then {second} KiB");
    }
}

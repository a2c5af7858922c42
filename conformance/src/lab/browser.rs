//! A headless Chromium with a page of JsSIP phones: `conformance/peers/browser` has the pages.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::{Lab, Process, peer, skipped};

/// What it takes to have one.
pub struct Browser {
    jssip: PathBuf,
}

impl Browser {
    /// Chromium, and JsSIP as one file; `None`, and a loud line, where they can't be had.
    pub fn found() -> Option<Browser> {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
        let jssip = home.join("postern/jssip-3.13.8");
        let made = Command::new(peer("browser/setup")).arg(&jssip).output();
        let has_browser = Command::new("chromium").arg("--version").output().is_ok();
        match made {
            Ok(made) if made.status.success() && has_browser => Some(Browser { jssip }),
            Ok(made) => {
                let why = String::from_utf8_lossy(&made.stderr).trim().to_owned();
                skipped(&format!("a browser with JsSIP can't be had (chromium: {has_browser}; {why})"));
                None
            }
            Err(error) => {
                skipped(&format!("JsSIP can't be had: {error}"));
                None
            }
        }
    }

    /// Opens a page in a host; its phones are of that domain, by way of that URL. `more`: which page, and what it is asked.
    pub fn opens(&self, lab: &Lab, host: &str, url: &str, domain: &str, more: &[&str]) -> Process {
        let (call, jssip) = (peer("browser/call"), self.jssip.to_string_lossy());
        lab.spawn(host, &[&[call.as_str(), &jssip, url, domain], more].concat())
    }
}

/// What phone.html and a baresip say that called each other: both heard both calls, and what each sent is counted at the
/// other.
pub fn both_called_and_heard(page: &Value, baresip: &Value) {
    let said = format!("{page}\n{baresip}");
    assert!(page["failed"].is_null() && page["registered"] == true, "{said}");
    let calls = page["calls"].as_array().expect("calls");
    let by: Vec<_> = calls.iter().filter_map(|call| call["by"].as_str()).collect();
    assert_eq!(by, ["alice", "bob"], "{said}");
    for call in calls {
        let number = |name: &str| call[name].as_i64().unwrap_or(0);
        assert!(number("sent") > 100 && number("received") > 100, "{said}");
        assert!(number("lost") < 5, "{said}");
    }
    let sum = |name: &str| calls.iter().filter_map(|call| call[name].as_i64()).sum::<i64>();
    let number = |name: &str| baresip[name].as_i64().unwrap_or(0);
    let near = |sent: i64, received: i64| (received - sent).abs() <= 40 + sent / 10;
    assert!(
        near(sum("sent"), number("received")) && near(number("sent"), sum("received")),
        "what one sent is not what the other received: {said}"
    );
}

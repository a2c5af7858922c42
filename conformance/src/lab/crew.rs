//! Phones without a speaker in the laboratory: `postern endpoint run`, each in a host of its own, by a script.

use super::{Lab, PATIENCE, Process, postern};

/// A phone that runs.
pub struct Member {
    process: Process,
    name: String,
}

impl Lab {
    /// Starts the phone `host@domain` (password `pw-` and the host's name) in its host, at this proxy. The steps are those of
    /// a script, each `{do: …}` on a line of its own; registering is the first one anyway.
    pub fn member(&self, host: &str, domain: &str, proxy: &str, steps: &str) -> Member {
        self.member_as(host, host, domain, proxy, steps)
    }

    /// The same with a name that is not its host's.
    pub fn member_as(&self, host: &str, user: &str, domain: &str, proxy: &str, steps: &str) -> Member {
        let steps: String = steps.lines().map(|step| format!("        - {}\n", step.trim())).collect();
        let plan = format!(
            "phones:\n  - user: {user}\n    domain: {domain}\n    password: pw-{user}\n    proxy: {proxy}\n    script:\n      \
             until-ms: 40000\n      answer: {{ after-ms: 200 }}\n      steps:\n        - {{ do: register }}\n{steps}"
        );
        let file = self.write(&format!("{host}.phone.yaml"), &plan);
        let argv = [postern(), "endpoint", "run", &file.to_string_lossy(), "--json"];
        Member { process: self.spawn(host, &argv), name: format!("{user}@{domain}") }
    }
}

impl Member {
    /// Its address of record.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same phone, once it is registered: from now on it can be called.
    pub fn registered(mut self) -> Member {
        self.comes_to("registered");
        self
    }

    /// Waits until a call of its is up.
    pub fn answered(&mut self) {
        self.process.wait_for(": answered\n", PATIENCE);
    }

    /// Waits until it says that something has happened, in these very words.
    pub fn comes_to(&mut self, words: &str) {
        self.process.wait_for(&format!(" s  {words}\n"), PATIENCE);
    }

    /// What it saw, once its script is over.
    pub fn report(mut self) -> serde_json::Value {
        self.process.wait(PATIENCE);
        self.process.document()[0].clone()
    }
}

/// How many packets with this party's marker a phone heard.
pub fn heard(report: &serde_json::Value, whom: &str) -> u64 {
    report["heard"][whom].as_u64().unwrap_or(0)
}

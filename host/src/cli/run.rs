//! `postern run`: the services, until a signal ends them.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

use super::{check, exit};
use crate::config::schema::Log;
use crate::config::{ConfigError, Settings};
use crate::server::Server;

/// How long calls in progress may take to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(30);

/// Runs until told to stop.
pub fn run(file: &Path, json: bool) -> u8 {
    let settings = match Settings::load(file) {
        Ok(settings) => settings,
        Err(error) => return check::refuse(&error, json),
    };
    start_log(settings.file.log, json);
    let server = match Server::start(&settings) {
        Ok(server) => server,
        Err(error) => {
            let error =
                ConfigError { file: file.to_owned(), place: None, what: error.what, remedy: error.remedy };
            return check::refuse(&error, json);
        }
    };
    for address in server.listening() {
        tracing::info!(%address, "listening");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let code = match runtime {
        Ok(runtime) => runtime.block_on(until_stopped(&server, file)),
        Err(error) => {
            tracing::error!(%error, "no runtime for signals");
            exit::OS
        }
    };
    server.stop();
    tracing::info!("stopped");
    code
}

/// Log lines go to standard error.
fn start_log(level: Log, json: bool) {
    let level = match level {
        Log::Error => LevelFilter::ERROR,
        Log::Warn => LevelFilter::WARN,
        Log::Info => LevelFilter::INFO,
        Log::Debug => LevelFilter::DEBUG,
        Log::Trace => LevelFilter::TRACE,
    };
    let colours = !json && std::io::IsTerminal::is_terminal(&std::io::stderr());
    // Fails only when a test set one up already.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .try_init();
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panic")));
}

async fn until_stopped(server: &Server, file: &Path) -> u8 {
    let (terminate, interrupt, hangup) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = (terminate, interrupt, hangup) else {
        tracing::error!("signals can't be received");
        return exit::OS;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                drain(server, &mut terminate, &mut interrupt).await;
                return exit::OK;
            }
            _ = interrupt.recv() => return exit::OK,
            _ = hangup.recv() => drop(reload(server, file)),
        }
    }
}

/// Parses, validates, swaps; a bad file changes nothing.
pub fn reload(server: &Server, file: &Path) -> Result<Vec<String>, ConfigError> {
    match Settings::load(file) {
        Ok(settings) => {
            let left = server.reload(&settings);
            left.iter().for_each(|words| tracing::warn!(words, "reload"));
            tracing::info!(file = %file.display(), "configuration reloaded");
            Ok(left)
        }
        Err(error) => {
            tracing::error!(%error, "the configuration was not reloaded; the old one stays");
            Err(error)
        }
    }
}

/// Refuses new calls and waits for the others; a second signal ends the wait.
async fn drain(
    server: &Server,
    terminate: &mut tokio::signal::unix::Signal,
    interrupt: &mut tokio::signal::unix::Signal,
) {
    tracing::info!(at_most = DRAIN.as_secs(), "draining: no new calls; waiting for those in progress");
    server.drain();
    let until = Instant::now() + DRAIN;
    while Instant::now() < until && server.lanes().iter().any(|lane| lane.calls + lane.sessions > 0) {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
        }
    }
}

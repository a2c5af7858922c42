//! `postern run`: the services, until a signal ends them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::{RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{check, exit};
use crate::admin::{self, Admin};
use crate::config::{ConfigError, Settings};
use crate::server::{Handle, Server, StartError};
use crate::succession::{self, Outcome, Predecessor, inherited, systemd};
use crate::{journal, memory};

/// How long calls in progress may take to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(30);
/// Editors write a file in several steps: a change is read when it has been quiet for so long.
const QUIET: Duration = Duration::from_millis(250);

/// Which configuration, and after whom.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "postern.yaml")]
    file: PathBuf,
    /// Take sockets, calls and registrations over from the process that runs by it, which ends then
    #[arg(long)]
    take_over: bool,
}

/// Runs until told to stop.
pub fn run(arguments: &Arguments, json: bool) -> u8 {
    let file = &arguments.file;
    let mut settings = match Settings::load(file) {
        Ok(settings) => settings,
        Err(error) => return check::refuse(&error, json),
    };
    journal::start(settings.file.log, json);
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panic")));
    let mut started = match arguments.take_over {
        true => take_over(&settings),
        false => Server::start(&settings).map(|server| (server, None)),
    };
    loop {
        let (server, predecessor) = match started {
            Ok(started) => started,
            Err(error) => {
                let (file, StartError { what, remedy, at }) = (file.clone(), error);
                let place = at.and_then(|at| settings.place_of(at));
                return check::refuse(&ConfigError { file, place, what, remedy }, json);
            }
        };
        settings.forget_users();
        memory::give_back();
        let code = serve(&server, &settings, predecessor, json);
        let outcome = server.handle().ending().take();
        server.stop();
        let Some(Outcome::TakenBack(remains, sessions)) = outcome else {
            tracing::info!("stopped");
            return code;
        };
        settings = match Settings::load(file) {
            Ok(settings) => settings,
            Err(error) => return check::refuse(&error, json),
        };
        started = Server::start_again(&settings, remains, sessions).map(|server| (server, None));
    }
}

/// With what the process behind the same control socket has; if there is none, from nothing.
fn take_over(settings: &Settings) -> Result<(Server, Option<Predecessor>), StartError> {
    let path = admin::path(settings);
    let met = Predecessor::meet(&path).map_err(|error| StartError {
        what: format!("the process behind {} does not hand over: {error}", path.display()),
        remedy: "it goes on; stop it first, or start this one without --take-over".to_owned(),
        at: None,
    })?;
    match met {
        Some(predecessor) => {
            Server::take_over(settings, &predecessor).map(|server| (server, Some(predecessor)))
        }
        None => Server::start(settings).map(|server| (server, None)),
    }
}

fn serve(server: &Server, settings: &Settings, predecessor: Option<Predecessor>, json: bool) -> u8 {
    let admin = match Admin::start(admin::path(settings), server.handle(), predecessor.is_some()) {
        Ok(admin) => Some(admin),
        Err(error) => {
            tracing::warn!(%error, "no control socket: set `control` to a path this user may write");
            None
        }
    };
    // Every lane has answered, so each has asked for its sockets.
    server.handle().lanes();
    predecessor.into_iter().for_each(Predecessor::dismiss);
    inherited::close_rest();
    announce(&server.handle(), admin.as_ref(), json);
    systemd::tell("READY=1");
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(until_stopped(&server.handle(), &settings.sources)),
        Err(error) => {
            tracing::error!(%error, "no runtime for signals");
            exit::OS
        }
    }
}

/// Tells whoever started it that it is ready, on standard output: one line, for scripts to wait for.
fn announce(handle: &Handle, admin: Option<&Admin>, json: bool) {
    let listening: Vec<String> = handle.listening().iter().map(ToString::to_string).collect();
    let control = admin.map(|admin| admin.path().display().to_string());
    let words = match json {
        true => serde_json::json!({ "ready": true, "listening": listening, "control": control }).to_string(),
        false => format!("ready: listening on {}", listening.join(", ")),
    };
    // Whoever waited for a predecessor's line may have gone.
    let _ = writeln!(std::io::stdout(), "{words}");
}

async fn until_stopped(handle: &Arc<Handle>, sources: &[PathBuf]) -> u8 {
    let signals =
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::user_defined2()]
            .map(signal);
    let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup), Ok(mut upgrade)] = signals else {
        tracing::error!("signals can't be received");
        return exit::OS;
    };
    let (mut changes, _watcher) = watch(sources);
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                drain(handle, &mut terminate, &mut interrupt).await;
                return exit::OK;
            }
            _ = interrupt.recv() => return exit::OK,
            _ = hangup.recv() => drop(handle.reload()),
            _ = upgrade.recv() => begin_upgrade(handle),
            () = handle.ending().comes() => return exit::OK,
            Some(()) = changes.recv() => {
                settle(&mut changes).await;
                drop(handle.reload());
            }
        }
    }
}

/// On a thread of its own: the process goes on until its successor has everything.
fn begin_upgrade(handle: &Arc<Handle>) {
    let handle = handle.clone();
    let body =
        move || drop(succession::upgrade(&handle).inspect_err(|words| tracing::error!(words, "upgrade")));
    if let Err(error) = std::thread::Builder::new().name("upgrade".into()).spawn(body) {
        tracing::error!(%error, "no upgrade");
    }
}

/// Watches the folders of the configuration's files: editors replace a file rather than write into it.
fn watch(sources: &[PathBuf]) -> (UnboundedReceiver<()>, Option<notify::RecommendedWatcher>) {
    let (tell, changes) = unbounded_channel();
    let names: Vec<_> = sources.iter().filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        let read_only = matches!(event.kind, notify::EventKind::Access(_));
        let about_us = event
            .paths
            .iter()
            .any(|path| path.file_name().is_some_and(|name| names.iter().any(|n| n == name)));
        if about_us && !read_only {
            let _ = tell.send(());
        }
    });
    let watched = watcher.and_then(|mut watcher| {
        for source in sources {
            let folder =
                source.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    });
    if let Err(error) = &watched {
        tracing::warn!(%error, "changes of the configuration are not noticed: use `postern reload`");
    }
    (changes, watched.ok())
}

/// Waits until no further change has come for a while.
async fn settle(changes: &mut UnboundedReceiver<()>) {
    while let Ok(Some(())) = tokio::time::timeout(QUIET, changes.recv()).await {}
}

/// Refuses new calls and waits for the others; a second signal ends the wait.
async fn drain(handle: &Handle, terminate: &mut Signal, interrupt: &mut Signal) {
    tracing::info!(at_most = DRAIN.as_secs(), "draining: no new calls; waiting for those in progress");
    handle.drain();
    let until = Instant::now() + DRAIN;
    while Instant::now() < until && handle.lanes().iter().any(|lane| lane.calls + lane.sessions > 0) {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
        }
    }
}

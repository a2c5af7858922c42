//! Recordings: what relay lanes copy goes through a bounded queue to one thread, which writes a pcapng file for each
//! session. A full queue, a full disk or a full file costs copies, which are counted, never media.
//!
//! The folder's size is bounded: at most so many files, each of at most so many bytes; the oldest go first. Only files
//! this module named are ever removed.

pub mod pcapng;
pub mod rules;
pub mod wav;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use proto::event::{Name, Side};
use proto::node::{Capture, Captured};

/// Copies that may wait for the disk: some 10 s of 32 recorded calls.
const ROOM: usize = 16_384;
/// How often what is written reaches the file.
const FLUSH: Duration = Duration::from_secs(1);

/// Where recordings go, and how much may be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The folder; made when the first recording begins.
    pub folder: PathBuf,
    /// Bytes of one file at most.
    pub file_size: u64,
    /// Files at most.
    pub files: usize,
}

/// What became of copies.
#[derive(Debug, Default)]
pub struct Counts {
    /// Written.
    pub written: AtomicU64,
    /// Lost: the queue or the file was full, or the disk refused.
    pub lost: AtomicU64,
}

/// The lanes' end of the queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// Boxed: the queue has its memory from the start.
    queue: SyncSender<Box<Captured>>,
    counts: Arc<Counts>,
}

/// What others may know of recordings; it keeps nothing open.
#[derive(Clone, Debug)]
pub struct View {
    counts: Arc<Counts>,
    folder: PathBuf,
}

impl View {
    /// Copies written, and lost.
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.written.load(Ordering::Relaxed), self.counts.lost.load(Ordering::Relaxed))
    }

    /// Where recordings are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Recorder {
    /// Starts the writer; it ends when the last recorder is gone.
    pub fn start(limits: Limits) -> io::Result<(Recorder, View, JoinHandle<()>)> {
        let (queue, waiting) = sync_channel(ROOM);
        let counts = Arc::new(Counts::default());
        let view = View { counts: counts.clone(), folder: limits.folder.clone() };
        let writer = Writer { limits, counts: counts.clone(), files: HashMap::new(), told: false };
        let thread =
            std::thread::Builder::new().name("captures".into()).spawn(move || writer.run(&waiting))?;
        Ok((Recorder { queue, counts }, view, thread))
    }

    /// Leaves a copy. Never waits.
    pub fn keep(&self, captured: Box<Captured>) {
        if self.queue.try_send(captured).is_err() {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A file that is being written.
#[derive(Debug)]
struct Recording {
    file: BufWriter<File>,
    size: u64,
    full: bool,
}

#[derive(Debug)]
struct Writer {
    limits: Limits,
    counts: Arc<Counts>,
    files: HashMap<Name, Recording>,
    /// That the disk refuses was logged.
    told: bool,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Box<Captured>>) {
        let mut flushed = Instant::now();
        loop {
            match waiting.recv_timeout(FLUSH) {
                Ok(captured) => self.take(*captured),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
            if flushed.elapsed() >= FLUSH {
                flushed = Instant::now();
                self.flush();
            }
        }
    }

    fn take(&mut self, Captured { session, what }: Captured) {
        match what {
            Capture::End => drop(self.files.remove(&session)),
            Capture::Packet { at, side, from, to, bytes } => {
                let interface = match side {
                    Side::Caller => 0,
                    Side::Callee => 1,
                };
                let mut block = Vec::with_capacity(bytes.len() + 96);
                pcapng::packet(&mut block, interface, at, from, to, &bytes);
                match self.write(&session, at, &block) {
                    Ok(true) => drop(self.counts.written.fetch_add(1, Ordering::Relaxed)),
                    Ok(false) => drop(self.counts.lost.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => self.refused(&session, &error),
                }
            }
        }
    }

    /// `false`: the file is full.
    fn write(&mut self, session: &Name, at: SystemTime, block: &[u8]) -> io::Result<bool> {
        if !self.files.contains_key(session) {
            let recording = self.open(session, at)?;
            self.files.insert(session.clone(), recording);
        }
        let Some(recording) = self.files.get_mut(session) else { return Ok(false) };
        recording.full |= recording.size + block.len() as u64 > self.limits.file_size;
        if recording.full {
            return Ok(false);
        }
        recording.file.write_all(block)?;
        recording.size += block.len() as u64;
        Ok(true)
    }

    fn open(&self, session: &Name, at: SystemTime) -> io::Result<Recording> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.limits.folder)?;
        make_room(&self.limits)?;
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let path = self.limits.folder.join(format!("{PREFIX}{:013}-{session}{SUFFIX}", since.as_millis()));
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut recording = Recording { file: BufWriter::new(file), size: 0, full: false };
        let mut head = Vec::new();
        pcapng::head(&mut head, &["caller", "callee"], &format!("postern session {session}"));
        recording.file.write_all(&head)?;
        recording.size = head.len() as u64;
        Ok(recording)
    }

    fn flush(&mut self) {
        for recording in self.files.values_mut() {
            if recording.file.flush().is_err() {
                recording.full = true;
            }
        }
    }

    fn refused(&mut self, session: &Name, error: &io::Error) {
        self.counts.lost.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.told, true) {
            let folder = self.limits.folder.display();
            tracing::warn!(%error, %session, %folder, "recordings can't be written; copies are dropped");
        }
    }
}

const PREFIX: &str = "postern-";
const SUFFIX: &str = ".pcapng";

/// Removes the oldest recordings until there is room for one more: their names begin with the time.
fn make_room(limits: &Limits) -> io::Result<()> {
    let mut ours: Vec<PathBuf> = recordings(&limits.folder)?;
    ours.sort();
    let surplus = (ours.len() + 1).saturating_sub(limits.files.max(1));
    ours.iter().take(surplus).try_for_each(fs::remove_file)
}

/// Recordings in a folder.
pub fn recordings(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(PREFIX) && name.ends_with(SUFFIX)
    };
    Ok(fs::read_dir(folder)?.flatten().map(|entry| entry.path()).filter(is_ours).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("postern-test-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    fn packet(session: &str, second: u64) -> Box<Captured> {
        let what = Capture::Packet {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            side: Side::Caller,
            from: "198.51.100.1:4000".parse().unwrap(),
            to: "203.0.113.1:30000".parse().unwrap(),
            bytes: vec![0x80; 172].into(),
        };
        Box::new(Captured { session: session.into(), what })
    }

    #[test]
    fn the_oldest_recordings_make_room_and_a_full_file_takes_no_more() {
        let folder = folder("room");
        let (recorder, view, thread) =
            Recorder::start(Limits { folder: folder.clone(), file_size: 1000, files: 2 }).unwrap();
        for (second, session) in [(1, "a"), (2, "b"), (3, "c")] {
            for _ in 0..10 {
                recorder.keep(packet(session, second));
            }
            recorder.keep(Box::new(Captured { session: session.into(), what: Capture::End }));
        }
        drop(recorder);
        thread.join().unwrap();
        let (written, lost) = view.counts();
        assert_eq!(written + lost, 30);
        assert!(written >= 6 && lost >= 6, "three files of 1000 bytes: {written} written, {lost} lost");
        let mut left = recordings(&folder).unwrap();
        left.sort();
        assert_eq!(left.len(), 2);
        assert!(left[1].to_string_lossy().contains("-c."), "{left:?}");
        assert!(left.iter().all(|path| fs::metadata(path).unwrap().len() <= 1000));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_costs_copies_and_nothing_else() {
        let limits = Limits { folder: "/proc/no/such".into(), file_size: 1000, files: 2 };
        let (recorder, view, thread) = Recorder::start(limits).unwrap();
        recorder.keep(packet("a", 1));
        drop(recorder);
        thread.join().unwrap();
        assert_eq!(view.counts(), (0, 1));
    }
}

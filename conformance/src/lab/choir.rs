//! Many voices in one thread: what a hundred calls say, and whether a packet of it is missing.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::phone::rtp;

/// Voices that speak in step until dropped.
pub struct Choir {
    voices: Arc<Mutex<Vec<Voice>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// One party's voice, and what it hears.
struct Voice {
    socket: UdpSocket,
    ssrc: u32,
    partner: u32,
    to: Option<SocketAddr>,
    next: u16,
    heard: BTreeSet<u16>,
    strange: usize,
}

impl Choir {
    /// A choir of nobody yet, in which everybody speaks every so often.
    pub fn new(period: Duration) -> Choir {
        let (voices, over) = (Arc::<Mutex<Vec<Voice>>>::default(), Arc::new(AtomicBool::new(false)));
        let (shared, ended) = (Arc::clone(&voices), Arc::clone(&over));
        let sing = move || {
            let mut next = Instant::now();
            while !ended.load(Ordering::Relaxed) {
                let speak = Instant::now() >= next;
                if speak {
                    next += period;
                }
                shared
                    .lock()
                    .expect("no thread panics with it")
                    .iter_mut()
                    .for_each(|voice| voice.turn(speak));
                std::thread::sleep(
                    next.saturating_duration_since(Instant::now()).min(Duration::from_millis(5)),
                );
            }
        };
        Choir { voices, over, thread: Some(std::thread::spawn(sing)) }
    }

    /// Adds a mute voice that listens for its partner; returns its number.
    pub fn join(&self, socket: UdpSocket, ssrc: u32, partner: u32) -> usize {
        socket.set_nonblocking(true).expect("any socket can");
        let mut voices = self.voices();
        voices.push(Voice { socket, ssrc, partner, to: None, next: 0, heard: BTreeSet::new(), strange: 0 });
        voices.len() - 1
    }

    /// Speaks to an address from now on, or falls silent.
    pub fn speak_to(&self, voice: usize, to: Option<SocketAddr>) {
        self.voices()[voice].to = to;
    }

    /// How many different packets of its partner a voice heard.
    pub fn heard(&self, voice: usize) -> usize {
        self.voices()[voice].heard.len()
    }

    /// How many packets a voice heard that are not of its partner.
    pub fn strange(&self, voice: usize) -> usize {
        self.voices()[voice].strange
    }

    /// How many of its partner's packets a voice missed, of those between the first and the last it heard.
    pub fn missed(&self, voice: usize) -> usize {
        let heard = &self.voices()[voice].heard;
        match (heard.first(), heard.last()) {
            (Some(first), Some(last)) => usize::from(last - first) + 1 - heard.len(),
            _ => 0,
        }
    }

    /// Waits until each of these voices has heard so many packets more.
    pub fn all_hear(&self, voices: impl Iterator<Item = usize> + Clone, more: usize, patience: Duration) {
        let before: Vec<_> = voices.clone().map(|voice| self.heard(voice)).collect();
        let deadline = Instant::now() + patience;
        loop {
            let deaf: Vec<_> = voices
                .clone()
                .zip(&before)
                .filter(|(voice, before)| self.heard(*voice) < *before + more)
                .collect();
            if deaf.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{} voices hear nothing: {deaf:?}", deaf.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn voices(&self) -> MutexGuard<'_, Vec<Voice>> {
        self.voices.lock().expect("no thread panics with it")
    }
}

impl Drop for Choir {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Voice {
    fn turn(&mut self, speak: bool) {
        if let Some(to) = self.to.filter(|_| speak) {
            let _ = self.socket.send_to(&rtp(self.ssrc, self.next), to);
            self.next = self.next.wrapping_add(1);
        }
        let mut packet = [0; 2048];
        while let Ok((size, _)) = self.socket.recv_from(&mut packet) {
            self.hear(&packet[..size]);
        }
    }

    fn hear(&mut self, packet: &[u8]) {
        match packet {
            [_, _, high, low, _, _, _, _, a, b, c, d, ..]
                if u32::from_be_bytes([*a, *b, *c, *d]) == self.partner && packet.len() == 172 =>
            {
                self.heard.insert(u16::from_be_bytes([*high, *low]));
            }
            _ => self.strange += 1,
        }
    }
}

//! A phone whose every word a test chooses, on real sockets inside a laboratory host.
//!
//! It registers with digest, keeps the route set of its dialogs, answers OPTIONS by itself and forgets
//! retransmissions; everything else is said by the test. Its [`Voice`] sends and notes RTP.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::story::Message;
use super::{Lab, PATIENCE};
use proto::digest;

/// A user agent at one UDP socket.
pub struct Phone {
    /// Its user name; the password is `pw-` and this name.
    pub user: String,
    /// The domain its addresses are in.
    pub domain: String,
    /// Where it believes to be.
    pub local: SocketAddr,
    /// Where it sends everything.
    pub proxy: SocketAddr,
    /// Whether its INVITEs are never challenged (a trunk): then it doesn't wait for that.
    pub trusted: bool,
    socket: UdpSocket,
    known: BTreeSet<String>,
    heard: Vec<Message>,
}

/// One side of a dialog (RFC 3261 §12).
#[derive(Clone, Debug)]
pub struct Dialog {
    /// `From` of this side's requests.
    pub local: String,
    /// `To` of this side's requests.
    pub remote: String,
    /// The Call-ID.
    pub call_id: String,
    /// The remote target.
    pub target: String,
    /// The route set.
    pub routes: Vec<String>,
    /// The last sequence number of this side.
    pub cseq: u32,
}

impl Phone {
    /// A phone at `local` (an `IP:PORT` of that host), serving `user` of `domain` by way of `proxy`.
    pub fn new(lab: &Lab, host: &str, local: &str, user: &str, domain: &str, proxy: &str) -> Phone {
        Phone::at(lab.udp(host, local), user, domain, proxy)
    }

    /// A phone at a socket.
    pub fn at(socket: UdpSocket, user: &str, domain: &str, proxy: &str) -> Phone {
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout above zero");
        Phone {
            user: user.into(),
            domain: domain.into(),
            local: socket.local_addr().expect("the socket was bound"),
            proxy: proxy.parse().unwrap_or_else(|_| panic!("{proxy} is no IP:PORT")),
            trusted: false,
            socket,
            known: BTreeSet::new(),
            heard: Vec::new(),
        }
    }

    /// Registers for `expires` seconds, with digest when asked. Returns the last answer.
    pub fn register(&mut self, expires: u32) -> Message {
        self.register_saying(expires, "")
    }

    /// The same with more header lines.
    pub fn register_saying(&mut self, expires: u32, more: &str) -> Message {
        let (aor, tag, call_id) = (format!("<sip:{}@{}>", self.user, self.domain), unique(), unique());
        let uri = format!("sip:{}", self.domain);
        let mut credentials = String::new();
        for cseq in 1..4 {
            let lines = format!(
                "From: {aor};tag={tag}\r\nTo: {aor}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\nContact: {}\r\nExpires: {expires}\r\n{more}{credentials}",
                self.contact()
            );
            self.request("REGISTER", &uri, &lines, "");
            let answer = self.expect_where("an answer to REGISTER", |m| {
                m.status().is_some_and(|s| s >= 200)
                    && m.header("Call-ID") == Some(&call_id)
                    && m.header("CSeq") == Some(&format!("{cseq} REGISTER"))
            });
            match self.credentials(&answer, "REGISTER", &uri, "") {
                Some(found) if credentials.is_empty() => credentials = found,
                _ => return answer,
            }
        }
        unreachable!("the second answer is returned")
    }

    /// Sends an INVITE to a user of its own domain or to `user@domain`, once more with credentials when challenged; ringing and answers are for the test.
    pub fn invite(&mut self, callee: &str, sdp: &str) -> Dialog {
        let home = if callee.contains('@') { String::new() } else { format!("@{}", self.domain) };
        let target = format!("sip:{callee}{home}");
        let mut dialog = Dialog {
            local: format!("<sip:{}@{}>;tag={}", self.user, self.domain, unique()),
            remote: format!("<{target}>"),
            call_id: unique(),
            target,
            routes: Vec::new(),
            cseq: 0,
        };
        let branch = self.ask(&mut dialog, "INVITE", sdp, "");
        if self.trusted {
            return dialog;
        }
        let call_id = dialog.call_id.clone();
        let first = self.expect_where("an answer to INVITE", |m| {
            m.header("Call-ID") == Some(&call_id) && m.status().is_some_and(|s| s > 100)
        });
        let Some(credentials) = self.credentials(&first, "INVITE", &dialog.target, sdp) else {
            self.heard.push(first);
            return dialog;
        };
        self.acknowledge_refusal(&dialog, &first, &branch);
        self.ask(&mut dialog, "INVITE", sdp, &credentials);
        dialog
    }

    /// Sends a request in a dialog (or the one that opens it). Returns its branch.
    pub fn ask(&mut self, dialog: &mut Dialog, method: &str, sdp: &str, more: &str) -> String {
        if method != "ACK" {
            dialog.cseq += 1;
        }
        let routes: String = dialog.routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
        let Dialog { local, remote, call_id, target, cseq, .. } = &*dialog;
        let lines = format!(
            "{routes}From: {local}\r\nTo: {remote}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: {}\r\n{more}",
            self.contact()
        );
        self.request(method, target, &lines, sdp)
    }

    /// Takes a 2xx to this side's INVITE into the dialog and acknowledges it, with SDP for a late offer.
    pub fn confirm(&mut self, dialog: &mut Dialog, ok: &Message, sdp: &str) {
        dialog.remote = ok.header("To").unwrap_or_default().into();
        dialog.target = ok.contact().unwrap_or(&dialog.target).into();
        dialog.routes = routes_of(ok).into_iter().rev().collect();
        self.ask(dialog, "ACK", sdp, "");
    }

    /// The dialog that this side's answer to an INVITE makes.
    pub fn accept(&mut self, invite: &Message, sdp: &str) -> Dialog {
        let to = format!("{};tag={}", invite.header("To").unwrap_or_default(), unique());
        self.respond(invite, 200, "OK", &to, sdp);
        Dialog {
            local: to,
            remote: invite.header("From").unwrap_or_default().into(),
            call_id: invite.header("Call-ID").unwrap_or_default().into(),
            target: invite.contact().unwrap_or_default().into(),
            routes: routes_of(invite),
            cseq: 0,
        }
    }

    /// Answers a request of a dialog.
    pub fn ok(&mut self, request: &Message, sdp: &str) {
        let to = request.header("To").unwrap_or_default().to_owned();
        self.respond(request, 200, "OK", &to, sdp);
    }

    /// Answers a request with any status; `to` is the To header with this side's tag.
    pub fn respond(&mut self, request: &Message, status: u16, phrase: &str, to: &str, sdp: &str) {
        let copied: String = ["Via", "Record-Route", "From", "Call-ID", "CSeq"]
            .iter()
            .flat_map(|name| {
                request.headers(name).into_iter().map(move |value| format!("{name}: {value}\r\n"))
            })
            .collect();
        let lines = format!("{copied}To: {to}\r\nContact: {}\r\n", self.contact());
        self.send(&format!("SIP/2.0 {status} {phrase}"), &lines, sdp);
    }

    /// Waits for the named message (see [`Message::is`]).
    pub fn expect(&mut self, name: &str) -> Message {
        self.expect_where(name, |message| message.is(name))
    }

    /// Waits for a message for which `fits` holds.
    pub fn expect_where(&mut self, what: &str, fits: impl Fn(&Message) -> bool) -> Message {
        self.within(PATIENCE, fits).unwrap_or_else(|| {
            let heard: Vec<_> = self.heard.iter().map(Message::start).collect();
            panic!("{} waited for {what} and heard {heard:?}", self.user)
        })
    }

    /// The next such message, if it comes in time.
    pub fn within(&mut self, patience: Duration, fits: impl Fn(&Message) -> bool) -> Option<Message> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(at) = self.heard.iter().position(&fits) {
                return Some(self.heard.remove(at));
            }
            if Instant::now() >= deadline {
                return None;
            }
            self.listen();
        }
    }

    /// Keeps answering what answers itself for a while.
    pub fn idle(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            self.listen();
        }
    }

    fn listen(&mut self) {
        let mut buffer = [0; 65535];
        let Ok((size, _)) = self.socket.recv_from(&mut buffer) else { return };
        let Some(message) = Message::read(&buffer[..size]) else { return };
        if message.is("OPTIONS") {
            let to = format!("{};tag={}", message.header("To").unwrap_or_default(), unique());
            return self.respond(&message, 200, "OK", &to, "");
        }
        if message.status() == Some(100) || !self.known.insert(message.0.clone()) {
            return;
        }
        self.heard.push(message);
    }

    fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.user, self.local)
    }

    fn request(&mut self, method: &str, uri: &str, lines: &str, sdp: &str) -> String {
        let branch = format!("z9hG4bK{}", unique());
        let via = format!("Via: SIP/2.0/UDP {};branch={branch};rport\r\nMax-Forwards: 70\r\n", self.local);
        self.send(&format!("{method} {uri} SIP/2.0"), &format!("{via}{lines}"), sdp);
        branch
    }

    fn send(&mut self, start: &str, lines: &str, sdp: &str) {
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!("{start}\r\n{lines}{kind}Content-Length: {}\r\n\r\n{sdp}", sdp.len());
        self.socket.send_to(text.as_bytes(), self.proxy).expect("a lab's route leads everywhere");
    }

    fn acknowledge_refusal(&mut self, dialog: &Dialog, refusal: &Message, branch: &str) {
        let Dialog { local, call_id, target, cseq, .. } = dialog;
        let to = refusal.header("To").unwrap_or_default();
        let lines = format!(
            "Via: SIP/2.0/UDP {};branch={branch};rport\r\nMax-Forwards: 70\r\nFrom: {local}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} ACK\r\n",
            self.local
        );
        self.send(&format!("ACK {target} SIP/2.0"), &lines, "");
    }

    /// The header that answers a challenge, if this is one.
    fn credentials(&self, answer: &Message, method: &str, uri: &str, body: &str) -> Option<String> {
        let (asked, answered) = match answer.status()? {
            401 => ("WWW-Authenticate", "Authorization"),
            407 => ("Proxy-Authenticate", "Proxy-Authorization"),
            _ => return None,
        };
        let challenge = digest::choose(answer.headers(asked).into_iter())?;
        let request = digest::Request { method, body: body.as_bytes() };
        let value =
            digest::answer(challenge, &self.user, &format!("pw-{}", self.user), uri, request, 1, &unique())?;
        Some(format!("{answered}: {value}\r\n"))
    }
}

fn routes_of(message: &Message) -> Vec<String> {
    message
        .headers("Record-Route")
        .iter()
        .flat_map(|line| line.split(','))
        .map(|route| route.trim().to_owned())
        .collect()
}

/// A word that no other message has.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!(
        "{:x}-{:x}-{:x}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed),
        now.as_nanos() as u64
    )
}

/// An SDP with one audio stream of PCMU.
pub fn audio_at(address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
    )
}

/// What a voice heard: when, from where, from whom.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// When it arrived.
    pub at: Instant,
    /// Its source address.
    pub from: SocketAddr,
    /// Its synchronisation source.
    pub ssrc: u32,
    /// Its sequence number.
    pub sequence: u16,
}

/// Sends a packet of silence every 20 ms and notes what it hears, until dropped.
pub struct Voice {
    /// The synchronisation source it sends.
    pub ssrc: u32,
    to: Arc<Mutex<Option<SocketAddr>>>,
    heard: Arc<Mutex<Vec<Heard>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Voice {
    /// Speaks and listens at a socket; mute until [`Voice::speak_to`].
    pub fn new(socket: UdpSocket, ssrc: u32) -> Voice {
        let (to, heard, over) = (Arc::default(), Arc::default(), Arc::new(AtomicBool::new(false)));
        let mouth =
            Mouth { socket, ssrc, to: Arc::clone(&to), heard: Arc::clone(&heard), over: Arc::clone(&over) };
        Voice { ssrc, to, heard, over, thread: Some(std::thread::spawn(move || mouth.run())) }
    }

    /// Speaks to an address from now on, or falls silent.
    pub fn speak_to(&self, address: Option<SocketAddr>) {
        *self.to.lock().expect("no thread panics with it") = address;
    }

    /// What it heard so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("no thread panics with it").clone()
    }

    /// The numbers of a stream that never came, from the first to the last that did.
    pub fn gaps(&self, ssrc: u32) -> Vec<u16> {
        let heard: std::collections::BTreeSet<u16> =
            self.heard().iter().filter(|heard| heard.ssrc == ssrc).map(|heard| heard.sequence).collect();
        let (Some(&first), Some(&last)) = (heard.first(), heard.last()) else { return vec![0] };
        (first..=last).filter(|number| !heard.contains(number)).collect()
    }

    /// How many packets of this source it heard since a moment.
    pub fn count(&self, ssrc: u32, since: Instant) -> usize {
        self.heard().iter().filter(|heard| heard.ssrc == ssrc && heard.at >= since).count()
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Mouth {
    socket: UdpSocket,
    ssrc: u32,
    to: Arc<Mutex<Option<SocketAddr>>>,
    heard: Arc<Mutex<Vec<Heard>>>,
    over: Arc<AtomicBool>,
}

impl Mouth {
    fn run(self) {
        let (mut next, mut sequence) = (Instant::now(), 0_u16);
        while !self.over.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now >= next {
                next += Duration::from_millis(20);
                self.speak(sequence);
                sequence = sequence.wrapping_add(1);
            }
            self.listen(next.saturating_duration_since(now).max(Duration::from_millis(1)));
        }
    }

    fn speak(&self, sequence: u16) {
        let Some(to) = *self.to.lock().expect("no thread panics with it") else { return };
        let _ = self.socket.send_to(&rtp(self.ssrc, sequence), to);
    }

    fn listen(&self, patience: Duration) {
        let mut buffer = [0; 2048];
        let _ = self.socket.set_read_timeout(Some(patience));
        let Ok((size, from)) = self.socket.recv_from(&mut buffer) else { return };
        if size >= 12 {
            let word =
                |at: usize| u32::from_be_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]);
            let heard = Heard { at: Instant::now(), from, ssrc: word(8), sequence: word(0) as u16 };
            self.heard.lock().expect("no thread panics with it").push(heard);
        }
    }
}

/// 20 ms of PCMU silence; the timestamp keeps step with the sequence number.
pub fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0x00];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.resize(172, 0xff);
    packet
}

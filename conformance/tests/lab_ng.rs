//! The ng protocol beside the program it comes from: the same offers and answers go to rtpengine and to Postern, and what
//! comes back must read the same but for the ports. What is known to differ stands in DEVIATIONS.md and is left out here.
//! Then Kamailio, with its stock `rtpengine` module, calls through Postern.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use conformance::lab::apart::{Apart, HOME, OFFICE, Service, binary, udp};
use conformance::lab::domains::{Call, told};
use conformance::lab::ng::{Client, list, masked, text};
use conformance::lab::phone::{Phone, Voice, audio_at};
use relay::ng::value::{Dict, Value};

type Flags = Vec<(&'static str, Value<'static>)>;

/// One step of an exchange: a command, and an SDP.
#[derive(Clone)]
struct Step {
    command: &'static str,
    tags: [&'static str; 2],
    sdp: String,
    flags: Flags,
}

struct Story {
    name: &'static str,
    steps: Vec<Step>,
}

fn offer(sdp: impl Into<String>, flags: Flags) -> Step {
    Step { command: "offer", tags: ["a", ""], sdp: sdp.into(), flags }
}

fn answer(sdp: impl Into<String>, flags: Flags) -> Step {
    Step { command: "answer", tags: ["a", "b"], sdp: sdp.into(), flags }
}

fn tagged(step: Step, tags: [&'static str; 2]) -> Step {
    Step { tags, ..step }
}

/// Everybody's: without ICE.
fn plain() -> Flags {
    vec![("ICE", text("remove"))]
}

fn with(more: Flags) -> Flags {
    [plain(), more].concat()
}

fn sdp(who: u8, lines: &str) -> String {
    sdp_at(&format!("192.0.2.{who}"), lines)
}

fn sdp_at(ip: &str, lines: &str) -> String {
    let lines = lines.replace('\n', "\r\n");
    format!("v=0\r\no=user 11 12 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n{lines}\r\n")
}

const EVENTS: &str = "a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15";
const VIDEO: &str = "b=TIAS:512000\na=rtpmap:96 H264/90000\na=fmtp:96 profile-level-id=42e01f\na=rtcp-fb:* nack pli\na=rtcp-fb:96 ccm fir\na=rtpmap:97 VP8/90000";

fn a() -> String {
    sdp(10, &format!("m=audio 4000 RTP/AVP 0 8 101\na=rtpmap:0 PCMU/8000\n{EVENTS}\na=ptime:20"))
}

fn b() -> String {
    sdp(20, "m=audio 5000 RTP/AVP 0 101\na=rtpmap:0 PCMU/8000\na=rtpmap:101 telephone-event/8000\na=sendrecv")
}

fn corpus() -> Vec<Story> {
    let story = |name, steps: Vec<Step>| Story { name, steps };
    let both =
        |name, flags: Flags| Story { name, steps: vec![offer(a(), flags.clone()), answer(b(), flags)] };
    let replaced = |words: &[&str]| with(vec![("replace", list(words))]);
    let codec = |key: &'static str, words: &[&str]| {
        with(vec![("codec", Value::Dict(Dict::default().with(key, list(words))))])
    };
    let mux = |words: &[&str]| with(vec![("rtcp-mux", list(words))]);
    let a_mux = || a() + "a=rtcp-mux\r\n";
    let b_mux = || b() + "a=rtcp-mux\r\n";
    vec![
        both("nothing but ICE=remove", plain()),
        both("replace-origin", replaced(&["origin"])),
        both("replace-origin and replace-session-connection", replaced(&["origin", "session-connection"])),
        story("rtcp-mux on both sides", vec![offer(a_mux(), plain()), answer(b_mux(), plain())]),
        story("rtcp-mux offered, not answered", vec![offer(a_mux(), plain()), answer(b(), plain())]),
        story("rtcp-mux=offer", vec![offer(a(), mux(&["offer"])), answer(b(), plain())]),
        story("rtcp-mux=offer, taken", vec![offer(a(), mux(&["offer"])), answer(b_mux(), plain())]),
        story("rtcp-mux=demux", vec![offer(a_mux(), mux(&["demux"])), answer(b(), plain())]),
        story("rtcp-mux=accept", vec![offer(a_mux(), mux(&["accept"])), answer(b(), plain())]),
        story("rtcp-mux=reject", vec![offer(a_mux(), mux(&["reject"])), answer(b(), plain())]),
        story(
            "attributes nobody here knows, and their order",
            vec![
                offer(
                    sdp(
                        10,
                        &format!(
                            "m=audio 4000 RTP/AVP 0 8 101\ni=title\nc=IN IP4 192.0.2.10\nb=AS:64\na=foo\na=rtpmap:8 PCMA/8000\n\
                             a=bar:x y\n{EVENTS}\na=sendrecv\na=maxptime:40\na=ptime:30\na=rtcp:4001 IN IP4 192.0.2.10\n\
                             a=ssrc:1234 cname:x\na=label:7\na=last"
                        ),
                    ),
                    plain(),
                ),
                answer(b(), plain()),
            ],
        ),
        story(
            "c= at both levels",
            vec![
                offer(sdp(10, "m=audio 4000 RTP/AVP 0 8\nc=IN IP4 192.0.2.11"), plain()),
                answer(sdp(20, "m=audio 5000 RTP/AVP 0\nc=IN IP4 192.0.2.21"), plain()),
            ],
        ),
        story(
            "attributes of the session",
            vec![offer(
                a().replace(
                    "t=0 0\r\n",
                    "t=0 0\r\nb=AS:84\r\na=sendonly\r\na=ptime:20\r\na=foo\r\na=ice-lite\r\n",
                ),
                plain(),
            )],
        ),
        story(
            "hold by sendonly",
            vec![
                offer(a() + "a=sendonly\r\n", plain()),
                answer(b().replace("sendrecv", "recvonly"), plain()),
            ],
        ),
        story(
            "hold by inactive",
            vec![
                offer(a() + "a=inactive\r\n", plain()),
                answer(b().replace("sendrecv", "inactive"), plain()),
            ],
        ),
        story(
            "hold by 0.0.0.0",
            vec![
                offer(a().replace("c=IN IP4 192.0.2.10", "c=IN IP4 0.0.0.0"), plain()),
                answer(b(), plain()),
            ],
        ),
        story(
            "hold by 0.0.0.0, replaced",
            vec![offer(
                a().replace("c=IN IP4 192.0.2.10", "c=IN IP4 0.0.0.0"),
                replaced(&["origin", "zero-address", "session-connection"]),
            )],
        ),
        story("nothing but a rejected section", vec![offer(sdp(10, "m=audio 0 RTP/AVP 0"), plain())]),
        story(
            "audio and video, video rejected",
            vec![
                offer(
                    a() + &format!("m=video 4010 RTP/AVP 96 97\r\n{}\r\n", VIDEO.replace('\n', "\r\n")),
                    plain(),
                ),
                answer(b() + "m=video 0 RTP/AVP 96\r\na=inactive\r\n", plain()),
            ],
        ),
        story(
            "audio and video",
            vec![
                offer(
                    a() + &format!("m=video 4010 RTP/AVP 96 97\r\n{}\r\n", VIDEO.replace('\n', "\r\n")),
                    plain(),
                ),
                answer(
                    b() + "m=video 5010 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=rtcp-fb:96 ccm fir\r\n",
                    plain(),
                ),
            ],
        ),
        story(
            "T.38",
            vec![
                offer(
                    sdp(
                        10,
                        "m=image 4000 udptl t38\na=T38FaxVersion:0\na=T38MaxBitRate:14400\na=T38FaxUdpEC:t38UDPRedundancy",
                    ),
                    plain(),
                ),
                answer(sdp(20, "m=image 5000 udptl t38\na=T38FaxVersion:0"), plain()),
            ],
        ),
        story(
            "MSRP over TCP is nobody's business here",
            vec![offer(
                a() + "m=message 2855 TCP/MSRP *\r\na=accept-types:text/plain\r\na=path:msrp://192.0.2.10:2855/x;tcp\r\n",
                plain(),
            )],
        ),
        story(
            "dynamic and static payload types",
            vec![
                offer(
                    sdp(
                        10,
                        "m=audio 4000 RTP/AVP 111 9 18 0 13\na=rtpmap:111 opus/48000/2\na=fmtp:111 minptime=10;useinbandfec=1\n\
                         a=fmtp:18 annexb=no\na=rtpmap:9 G722/8000",
                    ),
                    plain(),
                ),
                answer(
                    sdp(20, "m=audio 5000 RTP/AVP 111\na=rtpmap:111 opus/48000/2\na=fmtp:111 minptime=10"),
                    plain(),
                ),
            ],
        ),
        story(
            "an answer with what was not offered",
            vec![
                offer(sdp(10, "m=audio 4000 RTP/AVP 0 8"), plain()),
                answer(sdp(20, "m=audio 5000 RTP/AVP 0 18\na=rtpmap:18 G729/8000"), plain()),
            ],
        ),
        story(
            "AVPF on both sides",
            vec![
                offer(sdp(10, "m=audio 4000 RTP/AVPF 0\na=rtcp-fb:0 trr-int 100"), plain()),
                answer(sdp(20, "m=audio 5000 RTP/AVPF 0"), plain()),
            ],
        ),
        story(
            "transport-protocol=RTP/AVPF",
            vec![
                offer(a(), with(vec![("transport-protocol", text("RTP/AVPF"))])),
                answer(sdp(20, "m=audio 5000 RTP/AVPF 0"), plain()),
            ],
        ),
        story(
            "transport-protocol=RTP/AVP",
            vec![
                offer(
                    sdp(10, "m=audio 4000 RTP/AVPF 0"),
                    with(vec![("transport-protocol", text("RTP/AVP"))]),
                ),
                answer(sdp(20, "m=audio 5000 RTP/AVP 0"), plain()),
            ],
        ),
        story(
            "between two networks",
            vec![
                offer(
                    a(),
                    with(vec![("direction", list(&["default", "office"])), ("replace", list(&["origin"]))]),
                ),
                answer(
                    b(),
                    with(vec![("direction", list(&["office", "default"])), ("replace", list(&["origin"]))]),
                ),
            ],
        ),
        both("a network nobody knows", with(vec![("direction", list(&["moon", "mars"]))])),
        story("codec strip", vec![offer(a(), codec("strip", &["PCMA"]))]),
        story(
            "codec strip all, but",
            vec![offer(
                a(),
                with(vec![(
                    "codec",
                    Value::Dict(
                        Dict::default().with("strip", list(&["all"])).with("except", list(&["PCMA"])),
                    ),
                )]),
            )],
        ),
        story("codec-strip as a flag", vec![offer(a(), with(vec![("flags", list(&["codec-strip-PCMU"]))]))]),
        both("no-rtcp-attribute", with(vec![("flags", list(&["no-rtcp-attribute"]))])),
        both("full-rtcp-attribute", with(vec![("flags", list(&["full-rtcp-attribute"]))])),
        both("generate-mid", with(vec![("flags", list(&["generate-mid"]))])),
        story(
            "original-sendrecv",
            vec![offer(
                a().replace("c=IN IP4 192.0.2.10", "c=IN IP4 0.0.0.0"),
                with(vec![("flags", list(&["original-sendrecv"]))]),
            )],
        ),
        story("ptime", vec![offer(a(), with(vec![("ptime", Value::Int(40))])), answer(b(), plain())]),
        story("ptime of the answer", vec![offer(a(), plain()), answer(b() + "a=ptime:30\r\n", plain())]),
        both("media-address", with(vec![("media-address", text("198.51.100.7"))])),
        both(
            "SIP-source-address",
            with(vec![
                ("flags", list(&["SIP-source-address", "symmetric"])),
                ("received-from", list(&["IP4", "203.0.113.9"])),
            ]),
        ),
        story(
            "BUNDLE comes apart",
            vec![offer(
                a().replace("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE a v\r\n")
                    + "a=mid:a\r\na=rtcp-mux\r\nm=video 4000 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=mid:v\r\na=rtcp-mux\r\n",
                plain(),
            )],
        ),
        story("a count of ports", vec![offer(sdp(10, "m=audio 4000/2 RTP/AVP 0"), plain())]),
        story(
            "a second exchange, by the caller, then by the callee",
            vec![
                offer(a(), plain()),
                answer(b(), plain()),
                tagged(offer(a() + "a=sendonly\r\n", plain()), ["a", "b"]),
                answer(b().replace("sendrecv", "recvonly"), plain()),
                tagged(offer(b(), plain()), ["b", "a"]),
                tagged(answer(a(), plain()), ["b", "a"]),
            ],
        ),
        story(
            "video is added and refused",
            vec![
                offer(a(), plain()),
                answer(b(), plain()),
                tagged(
                    offer(a() + "m=video 4010 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n", plain()),
                    ["a", "b"],
                ),
                answer(b() + "m=video 0 RTP/AVP 96\r\n", plain()),
            ],
        ),
        story(
            "branches of a fork",
            vec![
                offer(a(), with(vec![("via-branch", text("1"))])),
                offer(a(), with(vec![("via-branch", text("2"))])),
                answer(b(), with(vec![("via-branch", text("1"))])),
                tagged(answer(b(), with(vec![("via-branch", text("2"))])), ["a", "c"]),
            ],
        ),
        story(
            "forks without a branch",
            vec![offer(a(), plain()), answer(b(), plain()), tagged(answer(b(), plain()), ["a", "c"])],
        ),
        story(
            "commands without a call",
            vec![
                Step { command: "query", ..offer("", Vec::new()) },
                Step { command: "delete", ..offer("", Vec::new()) },
                Step { command: "delete", ..offer("", vec![("flags", list(&["fatal"]))]) },
                Step { command: "dance", ..offer("", Vec::new()) },
                tagged(answer(b(), plain()), ["x", "y"]),
                offer("rubbish", plain()),
            ],
        ),
    ]
}

fn tell(client: &mut Client, call: &str, step: &Step) -> String {
    let mut entries = vec![("command", text(step.command)), ("call-id", text(call))];
    let tags = ["from-tag", "to-tag"].into_iter().zip(step.tags).filter(|(_, tag)| !tag.is_empty());
    entries.extend(tags.map(|(key, tag)| (key, text(tag))));
    if !step.sdp.is_empty() {
        entries.push(("sdp", text(&step.sdp)));
    }
    entries.extend(step.flags.iter().cloned());
    let answer = client.command(&entries);
    let word = |key: &str| answer.text(key).unwrap_or_default().to_owned();
    format!("{} {}{}\n{}", word("result"), word("error-reason"), word("warning"), masked(&word("sdp")))
}

/// A program that ends with the value.
struct Running(Child);

impl Running {
    fn start(program: &str, arguments: &[&str]) -> Option<Running> {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Running(child)),
            Err(error) if std::env::var_os("POSTERN_REQUIRE_LAB").is_some() => panic!("{program}: {error}"),
            Err(error) => {
                eprintln!("SKIPPED: {program} does not start: {error} (conformance/deps installs it)");
                None
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Kamailio's children end with their parent only when that is asked to end.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(3);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn relay(networks: &str, ports: &str, ng: &str) -> String {
    format!("networks:\n{networks}relay:\n  address: udp:127.0.0.1:5090\n  ports: {ports}\n  ng: {ng}\n")
}

#[test]
fn rtpengine_and_postern_write_the_same() {
    let Some(stage) = Apart::inside("rtpengine_and_postern_write_the_same") else { return };
    let interface = [format!("--interface={HOME}"), format!("--interface=office/{OFFICE}")];
    let arguments = ["--table=-1", "--foreground", "--log-level=1", "--listen-ng=127.0.0.1:2223"];
    let ports = ["--port-min=30000", "--port-max=30999"];
    let arguments: Vec<&str> =
        arguments.into_iter().chain(ports).chain(interface.iter().map(String::as_str)).collect();
    let Some(_rtpengine) = Running::start("rtpengine", &arguments) else { return };
    let networks = format!("  default: {{ bind: {HOME} }}\n  office: {{ bind: {OFFICE} }}\n");
    let _postern = stage.service("ng", &relay(&networks, "20000-20999", "udp:127.0.0.1:2224"));
    let (mut theirs, mut ours) = (Client::to("127.0.0.1:2223"), Client::to("127.0.0.1:2224"));
    theirs.wait();
    ours.wait();
    let mut differences = String::new();
    for (number, story) in corpus().iter().enumerate() {
        for (at, step) in story.steps.iter().enumerate() {
            let call = format!("call-{number}");
            let (expected, seen) = (tell(&mut theirs, &call, step), tell(&mut ours, &call, step));
            if expected != seen {
                differences += &format!(
                    "=== {} ({}, step {at})\n--- rtpengine\n{expected}--- postern\n{seen}",
                    story.name, step.command
                );
            }
        }
    }
    assert!(corpus().len() >= 40 && differences.is_empty(), "{differences}");
}

fn phone(user: &str, local: &str) -> Phone {
    let mut phone = Phone::at(udp(local), user, "127.0.0.1", "127.0.0.1:5060");
    phone.trusted = true;
    phone
}

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn both_hear(a: &Voice, b: &Voice, to_a: SocketAddr, to_b: SocketAddr) {
    a.speak_to(Some(to_a));
    b.speak_to(Some(to_b));
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(600));
    let heard = (a.count(b.ssrc, began), b.count(a.ssrc, began));
    assert!(heard.0 >= 25 && heard.1 >= 25, "{heard:?} of 30");
}

fn kamailio(config: &str) -> Option<Running> {
    let folder = std::env::temp_dir();
    let running = folder.join(format!("kamailio-{}", std::process::id()));
    let _ = std::fs::create_dir_all(&running);
    let config = format!("{}/{config}", env!("CARGO_MANIFEST_DIR"));
    let running = running.to_string_lossy();
    let kamailio = Running::start(
        "kamailio",
        &[
            "-f",
            &config,
            "-A",
            "WITH_RTPENGINE",
            "-DD",
            "-E",
            "-m",
            "32",
            "-M",
            "4",
            "-w",
            &running,
            "-Y",
            &running,
        ],
    )?;
    Some(kamailio)
}

/// Waits until somebody listens at Kamailio's address.
fn listening() {
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::UdpSocket::bind("127.0.0.1:5060").is_ok() {
        assert!(Instant::now() < deadline, "kamailio does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A call through the bench's own Kamailio: audio both ways by way of the relay, and its ports are free after BYE.
#[test]
fn kamailio_calls_through_us_as_its_rtpengine() {
    let Some(stage) = Apart::inside("kamailio_calls_through_us_as_its_rtpengine") else { return };
    let Some(_kamailio) = kamailio("bench/kamailio.cfg") else { return };
    let networks = "  default: { bind: 127.0.0.1 }\n";
    let record = format!("  record: {{ folder: {} }}\n", stage.folder().join("recordings").display());
    let config = relay(networks, "20000-20999", "udp:127.0.0.1:2223") + &record;
    let postern = stage.service("ng", &config);
    listening();
    let (mut alice, mut bob) = (phone("alice", "127.0.0.1:5061"), phone("bob", "127.0.0.1:5070"));
    let (ears_a, ears_b) = (Voice::new(udp("127.0.0.1:4000"), 0xa), Voice::new(udp("127.0.0.1:4002"), 0xb));
    let mut call = Call::place(&mut alice, &mut bob, at(4000), at(4002));
    let ports = [told(&call.ok).port(), told(&call.invite).port()];
    assert!(ports.iter().all(|port| (20_000..21_000).contains(port)), "{ports:?}: not the relay's");
    both_hear(&ears_a, &ears_b, told(&call.ok), told(&call.invite));
    assert_eq!(postern.count("ports"), 4);
    let told = postern.tell(&["capture", "last"]);
    assert!(told.contains("1 session(s) are being recorded"), "{told}");
    std::thread::sleep(Duration::from_millis(500));
    call.hang_up(&mut alice, &mut bob);
    postern.comes_to("ports", 0, Duration::from_secs(3));
    is_explained(&postern);
    has_both_voices(&stage.folder().join("recordings"));
}

/// What the call was like is told soon after its end.
fn is_explained(postern: &Service) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let story = postern.tell(&["explain", "last"]);
        if ["from the caller", "PCMU", "MOS 4."].iter().all(|words| story.contains(words)) {
            return;
        }
        assert!(Instant::now() < deadline, "{story}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The recording of the last half second has both parties' packets, and makes sound.
fn has_both_voices(folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(3);
    let packets = loop {
        let files: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
        let bytes = files.first().map(|file| std::fs::read(file.path()).expect("it is ours"));
        let of = |bytes: &Vec<u8>| {
            let packets = host::capture::pcapng::read(bytes).expect("pcapng");
            [0, 1].map(|side| packets.iter().filter(|packet| packet.interface == side).count())
        };
        let packets = bytes.as_ref().map(of).unwrap_or_default();
        if packets.iter().all(|count| *count >= 20) || Instant::now() > deadline {
            break packets;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(packets.iter().all(|count| (20..40).contains(count)), "{packets:?} packets of some 25 each");
    let file = std::fs::read_dir(folder).expect("it is there").flatten().next().expect("a recording").path();
    let made = Command::new(binary()).arg("wav").arg(&file).output().expect("the binary is there");
    assert!(made.status.success(), "{made:?}");
    assert!(std::fs::metadata(file.with_extension("wav")).expect("sound").len() > 44 + 8000);
}

/// A Kamailio that shows re-INVITEs to its rtpengine, too: hold, and audio at a new port afterwards.
#[test]
fn kamailio_re_invites_through_us() {
    let Some(stage) = Apart::inside("kamailio_re_invites_through_us") else { return };
    let Some(_kamailio) = kamailio("lab/kamailio.cfg") else { return };
    let networks = "  default: { bind: 127.0.0.1 }\n";
    let postern = stage.service("ng", &relay(networks, "20000-20999", "udp:127.0.0.1:2223"));
    listening();
    let (mut alice, mut bob) = (phone("alice", "127.0.0.1:5061"), phone("bob", "127.0.0.1:5070"));
    let ears_b = Voice::new(udp("127.0.0.1:4002"), 0xb);
    let mut call = Call::place(&mut alice, &mut bob, at(4000), at(4002));
    let (to_a, to_b) = (told(&call.ok), told(&call.invite));
    let hold = audio_at(at(4000)).replace("sendrecv", "sendonly");
    let answer = audio_at(at(4002)).replace("sendrecv", "recvonly");
    let (offer, held) = call.renegotiate(&mut alice, &mut bob, &hold, &answer);
    assert!(offer.body().contains("a=sendonly") && held.body().contains("a=recvonly"), "{}", offer.0);
    assert_eq!((told(&held), told(&offer)), (to_a, to_b), "ports stay");
    let new = Voice::new(udp("127.0.0.1:4444"), 0xaa);
    let (offer, answer) = call.renegotiate(&mut alice, &mut bob, &audio_at(at(4444)), &audio_at(at(4002)));
    both_hear(&new, &ears_b, told(&answer), told(&offer));
    call.hang_up(&mut alice, &mut bob);
    postern.comes_to("ports", 0, Duration::from_secs(3));
}

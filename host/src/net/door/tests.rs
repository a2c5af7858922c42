//! The program says what `Expected::lets_in` says: step by step for any packet, and in the kernel for real ones.
#![allow(clippy::disallowed_methods, reason = "one Instant to draw a packet's numbers from")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant, UNIX_EPOCH};

use proto::node::{Birth, Dice, Lane};
use proto::stun::{Class, Writer, attribute};

use super::*;

/// Runs a program as the kernel would, on a packet from there to our port; whether it is let in.
fn run(program: &[sock_filter], from: SocketAddr, payload: &[u8]) -> bool {
    let mut ip = vec![0; 40];
    match from.ip() {
        IpAddr::V4(source) => ip[12..16].copy_from_slice(&source.octets()),
        IpAddr::V6(source) => ip[8..24].copy_from_slice(&source.octets()),
    }
    let udp = [&from.port().to_be_bytes()[..], &[0x75, 0x30, 0, 0, 0, 0], payload].concat();
    let load = |at: u32, size: usize| {
        let (bytes, at) = if at >= NETWORK { (&ip, at - NETWORK) } else { (&udp, at) };
        let bytes = bytes.get(at as usize..at as usize + size)?;
        Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    };
    let (mut a, mut x, mut memory, mut at) = (0u32, 0u32, [0u32; 16], 0);
    loop {
        let sock_filter { code, jf, k, .. } = program[at];
        at += 1;
        let loaded = match code {
            LOAD_WORD => load(k, 4),
            LOAD_HALF => load(k, 2),
            LOAD_WORD_AT_X => load(x + k, 4),
            LOAD_HALF_AT_X => load(x + k, 2),
            LOAD_MEMORY => Some(memory[k as usize]),
            ADD => Some(a.wrapping_add(k)),
            ADD_X => Some(a.wrapping_add(x)),
            AND => Some(a & k),
            _ => Some(a),
        };
        let Some(loaded) = loaded else { return false };
        a = loaded;
        match code {
            STORE => memory[k as usize] = a,
            SET_X => x = k,
            A_TO_X => x = a,
            JUMP => at += k as usize,
            IF_EQUAL if a != k => at += usize::from(jf),
            RETURN => return k > 0,
            _ => {}
        }
    }
}

fn dice(seed: u8) -> Dice {
    let (now, wall) = (Instant::now(), UNIX_EPOCH);
    Birth { now, wall, seed: [seed; 32], lane: Lane::default() }.dice(1)
}

/// Addresses that share many bits, so that comparisons go far.
fn near(dice: &mut Dice, is_v4: bool) -> SocketAddr {
    let ip: IpAddr = match is_v4 {
        true => Ipv4Addr::from_bits(0xcb00_7100 ^ 1 << dice.below(10)).into(),
        false => Ipv6Addr::from_bits(0x2001_0db8_0001_0002_0000_0000_0000_0001 ^ 1 << dice.below(90)).into(),
    };
    (ip, 4000 + dice.below(3) as u16).into()
}

fn some_expected(dice: &mut Dice, is_v4: bool) -> Expected {
    let sources = (0..dice.below(6)).map(|_| {
        let at = near(dice, is_v4);
        let bits = [24, 25, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128][dice.below(12) as usize];
        match dice.below(2) {
            0 => Source::exactly(at),
            _ => Source::within(at.ip(), bits.min(32), bits),
        }
    });
    let sources = sources.collect();
    let streams = (0..dice.below(4)).map(|n| 0x1000 + n as u32).collect();
    let names = (0..dice.below(3)).map(|n| [b'n', b'a', b'm', b'0' + n as u8]).collect();
    Expected { sources, streams, names }
}

fn some_packet(dice: &mut Dice) -> Vec<u8> {
    let ssrc = (0x1000 + dice.below(6) as u32).to_be_bytes();
    let mut packet = match dice.below(4) {
        0 => [&[0x80, 0, 0, 1, 0, 0, 0, 9][..], &ssrc, &[0xd5; 20]].concat(),
        1 => [&[0x80, 201, 0, 1][..], &ssrc, &[7; 8]].concat(),
        2 => {
            let before = dice.below(10) as usize;
            let writer = Writer::new(Class::Request, [7; 12]);
            let writer = (0..before).fold(writer, |writer, n| writer.attribute(0x8055, &vec![6; n]));
            let name = format!("nam{}rest:x", dice.below(4));
            writer.attribute(attribute::USERNAME, name.as_bytes()).sign(b"key")
        }
        _ => vec![0x16; dice.below(60) as usize],
    };
    if dice.below(4) == 0 {
        packet.truncate(dice.below(packet.len() as u64 + 1) as usize);
    }
    if let Some(byte) = packet.get_mut(dice.below(40) as usize).filter(|_| dice.below(4) == 0) {
        *byte = dice.u32() as u8;
    }
    packet
}

#[test]
fn the_program_says_what_is_expected_for_any_packet_of_either_family() {
    let mut dice = dice(1);
    let mut seen = [0; 2];
    for _ in 0..2_000 {
        let is_v4 = dice.below(2) == 0;
        let expected = some_expected(&mut dice, is_v4);
        let program = program(is_v4, &expected);
        for _ in 0..50 {
            let (from, packet) = (near(&mut dice, is_v4), some_packet(&mut dice));
            let lets_in = expected.lets_in(from, &packet);
            assert_eq!(run(&program, from, &packet), lets_in, "{from} {packet:02x?} {expected:?}");
            seen[usize::from(lets_in)] += 1;
        }
    }
    assert!(seen.iter().all(|times| *times > 10_000), "{seen:?}");
}

/// A socket, and whoever sends to it.
fn pair(ip: &str) -> (UdpSocket, UdpSocket) {
    let [here, party] = [(); 2].map(|()| UdpSocket::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap());
    here.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (here, party)
}

/// What has come, in order: on loopback a packet is there, or dropped, when sending it returns.
fn comes(here: &UdpSocket) -> Vec<Vec<u8>> {
    here.set_nonblocking(true).unwrap();
    let mut buffer = [0; 2048];
    std::iter::from_fn(|| here.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())).collect()
}

#[test]
fn the_kernel_does_what_the_program_says_and_counts_what_it_drops() {
    for (seed, ip) in [(2, "127.0.0.1"), (3, "::1")] {
        let mut dice = dice(seed);
        let (here, party) = pair(ip);
        let to = here.local_addr().unwrap();
        let mut dropped = drops(here.as_fd()).unwrap();
        for _ in 0..100 {
            let mut expected = some_expected(&mut dice, to.is_ipv4());
            if dice.below(3) == 0 {
                expected.sources.push(Source::exactly(party.local_addr().unwrap()));
            }
            close(here.as_fd(), to.is_ipv4(), &expected).unwrap();
            for _ in 0..10 {
                let packet = some_packet(&mut dice);
                party.send_to(&packet, to).unwrap();
                let lets_in = expected.lets_in(party.local_addr().unwrap(), &packet);
                assert_eq!(
                    comes(&here),
                    vec![packet.clone(); usize::from(lets_in)],
                    "{packet:02x?} {expected:?}"
                );
                dropped += u32::from(!lets_in);
                assert_eq!(drops(here.as_fd()).unwrap(), dropped);
            }
        }
        open(here.as_fd()).unwrap();
        open(here.as_fd()).expect("open already");
        party.send_to(b"anything", to).unwrap();
        assert_eq!(comes(&here), [b"anything"]);
    }
}

/// A port of many calls: as much as a program has room for, and no more.
#[test]
fn who_expects_too_many_is_told_so_and_the_door_stays_as_it_was() {
    let (here, party) = pair("127.0.0.1");
    let at = |n: u32| Source::exactly((Ipv4Addr::from_bits(0x0a00_0000 + n), 4000).into());
    let many = |count| Expected { sources: (0..count).map(at).collect(), ..Expected::default() };
    close(here.as_fd(), true, &many(200)).unwrap();
    assert!(close(here.as_fd(), true, &many(1_000)).is_err());
    party.send_to(b"a stranger's", here.local_addr().unwrap()).unwrap();
    assert!(comes(&here).is_empty());
}

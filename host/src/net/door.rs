//! The door of a media socket: a filter of classic BPF that the kernel asks before it queues a packet (`SO_ATTACH_FILTER` of
//! socket(7)). It needs no privilege, a packet it keeps out wakes nobody, and the kernel counts it among the socket's drops.
//!
//! The program is [`Expected`] written out, one comparison after another, so it says what [`Expected::lets_in`] says; the
//! tests hold both against each other. What is read behind a packet's end ends the program, and the packet is dropped.
//!
//! ```text
//!   source   the IP header's (SKF_NET_OFF), into M[0..4]; each expected one is compared with it
//!   ports    the UDP header is what a UDP socket's filter sees first: offset 0
//!   RTCP     the sender's SSRC at 8 + 4          RTP     the SSRC at 8 + 8
//!   STUN     the cookie at 8 + 4, then attribute by attribute to a USERNAME
//! ```
#![allow(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_void, sock_filter, sock_fprog, socklen_t};
use proto::door::{ATTRIBUTES, Expected, RTCP_SSRC, RTP_SSRC, Source};
use proto::stun::{COOKIE, COOKIE_AT, HEADER_LEN, attribute};

/// The kernel's longest program (`BPF_MAXINSNS`).
const LONGEST: usize = 4096;
// Socket options as asm-generic/socket.h has them.
const SO_ATTACH_FILTER: i32 = 26;
const SO_DETACH_FILTER: i32 = 27;
const SO_MEMINFO: i32 = 55;
/// `SK_MEMINFO_DROPS` of linux/sock_diag.h, and how many numbers there are at least up to it.
const DROPS: usize = 8;

/// Lets in what is expected at a socket of this family, and nothing else.
pub fn close(socket: BorrowedFd<'_>, is_v4: bool, expected: &Expected) -> io::Result<()> {
    let mut program = program(is_v4, expected);
    if program.len() > LONGEST {
        return Err(io::Error::other("more is expected there than the kernel looks through"));
    }
    let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set(socket, SO_ATTACH_FILTER, &program)
}

/// Lets in everything. A door that is open already stays so.
pub fn open(socket: BorrowedFd<'_>) -> io::Result<()> {
    match set(socket, SO_DETACH_FILTER, &0i32) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// How many packets the kernel has dropped at a socket: a closed door's, and those that found no room. It wraps.
pub fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut numbers = [0u32; DROPS + 1];
    let mut length = size_of_val(&numbers) as socklen_t;
    // SAFETY: the kernel writes `length` bytes at most.
    let done = unsafe {
        let at = (&raw mut numbers).cast::<c_void>();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_MEMINFO, at, &raw mut length)
    };
    if done == 0 { Ok(numbers[DROPS]) } else { Err(io::Error::last_os_error()) }
}

fn set<T>(socket: BorrowedFd<'_>, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads so many bytes of `value`, and what it points to lives until this returns.
    let done = unsafe {
        let at = (&raw const *value).cast::<c_void>();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, at, size_of::<T>() as socklen_t)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

// Instructions, as linux/bpf_common.h has them: A and X are the registers, M the memory.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_HALF_AT_X: u16 = 0x48;
const LOAD_WORD_AT_X: u16 = 0x40;
const LOAD_MEMORY: u16 = 0x60;
const STORE: u16 = 0x02;
const SET_X: u16 = 0x01;
const ADD: u16 = 0x04;
const ADD_X: u16 = 0x0c;
const AND: u16 = 0x54;
const A_TO_X: u16 = 0x07;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Offsets from here on count from the IP header (`SKF_NET_OFF`).
const NETWORK: u32 = -0x10_0000_i32 as u32;
/// Bytes of a UDP header.
const UDP: u32 = 8;
/// All of a packet.
const WHOLE: u32 = u32::MAX;

fn program(is_v4: bool, expected: &Expected) -> Vec<sock_filter> {
    let mut program = Program::default();
    program.sources(is_v4, &expected.sources);
    if !expected.streams.is_empty() {
        for at in [RTCP_SSRC, RTP_SSRC] {
            program.add(LOAD_WORD, UDP + at as u32);
            expected.streams.iter().for_each(|ssrc| program.let_in_if(*ssrc));
        }
    }
    if !expected.names.is_empty() {
        program.names(&expected.names);
    }
    program.add(RETURN, 0);
    program.0
}

#[derive(Default)]
struct Program(Vec<sock_filter>);

impl Program {
    fn add(&mut self, code: u16, k: u32) {
        self.0.push(sock_filter { code, jt: 0, jf: 0, k });
    }

    /// Unless A is this, leaves so many instructions out.
    fn unless(&mut self, value: u32, leave_out: u8) {
        self.0.push(sock_filter { code: IF_EQUAL, jt: 0, jf: leave_out, k: value });
    }

    /// Lets the packet in if A is this.
    fn let_in_if(&mut self, value: u32) {
        self.unless(value, 1);
        self.add(RETURN, WHOLE);
    }

    fn sources(&mut self, is_v4: bool, sources: &[Source]) {
        let words: &[u32] = if is_v4 { &[12] } else { &[8, 12, 16, 20] };
        for (number, at) in words.iter().enumerate() {
            self.add(LOAD_WORD, NETWORK.wrapping_add(*at));
            self.add(STORE, number as u32);
        }
        sources.iter().filter(|source| source.ip.is_ipv4() == is_v4).for_each(|source| self.source(source));
    }

    fn source(&mut self, source: &Source) {
        let words: Vec<u32> = match source.ip {
            IpAddr::V4(ip) => vec![ip.to_bits()],
            IpAddr::V6(ip) => (0..4).rev().map(|at| (ip.to_bits() >> (32 * at)) as u32).collect(),
        };
        // How many instructions are left, for whoever is another one.
        let masks: Vec<u32> =
            (0..words.len() as u32).map(|at| mask(source.bits.saturating_sub(32 * at))).collect();
        let cost = |mask: u32| match mask {
            0 => 0,
            u32::MAX => 2,
            _ => 3,
        };
        let mut left = masks.iter().map(|mask| cost(*mask)).sum::<u8>() + 1;
        left += if source.port.is_some() { 2 } else { 0 };
        for (at, (word, mask)) in words.iter().zip(&masks).enumerate().filter(|(_, (_, mask))| **mask > 0) {
            self.add(LOAD_MEMORY, at as u32);
            if *mask < u32::MAX {
                self.add(AND, *mask);
            }
            left -= cost(*mask);
            self.unless(word & mask, left);
        }
        if let Some(port) = source.port {
            self.add(LOAD_HALF, 0);
            self.unless(port.into(), 1);
        }
        self.add(RETURN, WHOLE);
    }

    /// Goes from attribute to attribute, X being where one begins.
    fn names(&mut self, names: &[[u8; 4]]) {
        self.add(LOAD_WORD, UDP + COOKIE_AT as u32);
        self.unless(COOKIE, 1);
        self.add(JUMP, 1);
        self.add(RETURN, 0);
        self.add(SET_X, UDP + HEADER_LEN as u32);
        let mut found = Vec::new();
        for _ in 0..ATTRIBUTES {
            self.add(LOAD_HALF_AT_X, 0);
            self.unless(attribute::USERNAME.into(), 2);
            self.add(LOAD_WORD_AT_X, 4);
            found.push(self.0.len());
            self.add(JUMP, 0);
            self.add(LOAD_HALF_AT_X, 2);
            self.add(ADD, 3);
            self.add(AND, !3);
            self.add(ADD, 4);
            self.add(ADD_X, 0);
            self.add(A_TO_X, 0);
        }
        self.add(RETURN, 0);
        for jump in found {
            self.0[jump].k = (self.0.len() - jump - 1) as u32;
        }
        names.iter().for_each(|name| self.let_in_if(u32::from_be_bytes(*name)));
    }
}

/// The first bits of a word.
fn mask(bits: u32) -> u32 {
    match bits {
        0 => 0,
        32.. => u32::MAX,
        bits => u32::MAX << (32 - bits),
    }
}

#[cfg(test)]
mod tests;

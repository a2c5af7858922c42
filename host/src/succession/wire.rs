//! How an estate crosses a Unix socket: lines of JSON with their length in front, raw records after them, sockets as
//! ancillary data (unix(7), `SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Estate, Heirloom, Purpose};

/// Sockets in one message; the kernel takes 253.
const AT_ONCE: usize = 200;
/// The longest frame that is believed.
const LONGEST: usize = 1 << 30;

#[derive(Deserialize, Serialize)]
struct Contents {
    sockets: Vec<(Purpose, std::net::SocketAddr)>,
    sessions: Vec<(u64, usize)>,
}

pub(super) fn send<T: Serialize>(mut to: &UnixStream, value: &T) -> io::Result<()> {
    let words = serde_json::to_vec(value)?;
    to.write_all(&(words.len() as u64).to_be_bytes())?;
    to.write_all(&words)
}

pub(super) fn receive<T: DeserializeOwned>(mut from: &UnixStream) -> io::Result<T> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let words = bytes(from, u64::from_be_bytes(length) as usize)?;
    Ok(serde_json::from_slice(&words)?)
}

/// So many bytes as they are.
pub(super) fn bytes(mut from: &UnixStream, length: usize) -> io::Result<Vec<u8>> {
    if length > LONGEST {
        return Err(io::Error::other(format!("{length} bytes were announced: expected {LONGEST} at most")));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn send_estate(mut to: &UnixStream, estate: &Estate) -> io::Result<()> {
    let contents = Contents {
        sockets: estate.sockets.iter().map(|one| (one.purpose, one.local)).collect(),
        sessions: estate.sessions.iter().map(|(id, record)| (*id, record.len())).collect(),
    };
    send(to, &contents)?;
    estate.sessions.iter().try_for_each(|(_, record)| to.write_all(record))?;
    for some in estate.sockets.chunks(AT_ONCE) {
        let numbers: Vec<RawFd> = some.iter().map(|one| one.socket.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        sendmsg::<UnixAddr>(to.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::empty(), None)?;
    }
    Ok(())
}

pub(super) fn receive_estate(from: &UnixStream) -> io::Result<Estate> {
    let contents: Contents = receive(from)?;
    let sessions = contents.sessions.iter().map(|&(id, length)| Ok((id, bytes(from, length)?)));
    let sessions = sessions.collect::<io::Result<_>>()?;
    let mut sockets = Vec::with_capacity(contents.sockets.len());
    for some in contents.sockets.chunks(AT_ONCE) {
        let received = receive_sockets(from, some.len())?;
        let named = some.iter().zip(received);
        sockets.extend(named.map(|(&(purpose, local), socket)| Heirloom { purpose, local, socket }));
    }
    Ok(Estate { sockets, sessions })
}

/// The sockets of one message.
#[allow(unsafe_code)]
fn receive_sockets(from: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let (mut byte, mut space) = ([0], nix::cmsg_space!([RawFd; AT_ONCE]));
    let mut vectors = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(from.as_raw_fd(), &mut vectors, Some(&mut space), flags)?;
    let mut sockets = Vec::with_capacity(count);
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            // SAFETY: the kernel has just made these descriptors for us, and nobody else knows their numbers.
            sockets.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    if sockets.len() != count {
        let words = format!("{} sockets came, expected {count}: too few open files?", sockets.len());
        return Err(io::Error::other(words));
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn sockets_and_sessions_arrive_as_they_were_with_what_waits_in_them() {
        let (old, new) = UnixStream::pair().unwrap();
        let talker = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sockets = (0..AT_ONCE + 1).map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let local = socket.local_addr().unwrap();
            talker.send_to(local.to_string().as_bytes(), local).unwrap();
            Heirloom { purpose: Purpose::Media, local, socket: socket.into() }
        });
        let estate = Estate { sockets: sockets.collect(), sessions: vec![(7, vec![1; 1000]), (8, vec![])] };
        let sent = std::thread::spawn(move || send_estate(&old, &estate));
        let received = receive_estate(&new).unwrap();
        sent.join().unwrap().unwrap();
        assert_eq!(received.sessions, [(7, vec![1; 1000]), (8, vec![])]);
        assert_eq!(received.sockets.len(), AT_ONCE + 1);
        for one in received.sockets {
            let (socket, mut buffer) = (UdpSocket::from(one.socket), [0; 64]);
            assert_eq!(socket.local_addr().unwrap(), one.local);
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..length], *one.local.to_string().as_bytes());
        }
    }
}

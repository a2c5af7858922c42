//! Whose a socket is: the kernel's tables of sockets say its number, and the open files of a process name the number.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::ports::read_address;

/// How a TCP socket that listens is marked in /proc/net/tcp.
const LISTENS: &str = "0A";

/// Who has an address, in words: `asterisk (process 812)`. `None`: nobody, or it can't be seen (another user's, another
/// container's).
pub fn owner(udp: bool, address: SocketAddr) -> Option<String> {
    let own = if address.is_ipv6() { ["udp6", "tcp6"] } else { ["udp", "tcp"] };
    let at = usize::from(!udp);
    let tables = [own[at], ["udp6", "tcp6"][at]];
    let inode = tables.iter().find_map(|table| {
        let text = fs::read_to_string(Path::new("/proc/net").join(table)).ok()?;
        text.lines().skip(1).find_map(|line| inode_at(line, udp, address))
    })?;
    let link = format!("socket:[{inode}]");
    let named = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.file_name());
    let mut processes = named.filter_map(|name| name.to_str()?.parse::<u32>().ok());
    let process = processes.find(|process| has(&Path::new("/proc").join(process.to_string()), &link))?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(format!("{} (process {process})", name.trim()))
}

/// The number of the socket in a line, if it is in the way of `address`.
fn inode_at(line: &str, udp: bool, address: SocketAddr) -> Option<u64> {
    let mut words = line.split_whitespace().skip(1);
    let there = read_address(words.next()?)?;
    let state = words.nth(1)?;
    let here = there.port() == address.port()
        && (there.ip() == address.ip() || there.ip().is_unspecified() || address.ip().is_unspecified());
    (here && (udp || state == LISTENS)).then(|| words.nth(5)?.parse().ok())?
}

fn has(process: &Path, link: &str) -> bool {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| target.as_os_str() == link)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn who_has_an_address_is_named() {
        let (datagrams, streams) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let us = format!("(process {})", std::process::id());
        assert!(owner(true, datagrams.local_addr().unwrap()).unwrap().ends_with(&us));
        assert!(owner(false, streams.local_addr().unwrap()).unwrap().ends_with(&us));
        let free = datagrams.local_addr().unwrap();
        drop(datagrams);
        assert_eq!(owner(true, free), None);
    }
}

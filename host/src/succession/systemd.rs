//! Tells systemd how a service stands (sd_notify(3)): one datagram to the socket that `NOTIFY_SOCKET` names.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says `words`, if anybody wants to know. A failure is nobody's business but systemd's.
pub fn tell(words: &str) {
    if let Some(name) = std::env::var_os("NOTIFY_SOCKET") {
        let sent = send(name.as_encoded_bytes(), words);
        if let Err(error) = sent {
            tracing::debug!(%error, words, "systemd was not told");
        }
    }
}

/// A name that begins with `@` is an abstract one.
fn send(name: &[u8], words: &str) -> std::io::Result<usize> {
    let address = match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => {
            let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(path);
            SocketAddr::from_pathname(path)?
        }
    };
    UnixDatagram::unbound()?.send_to_addr(words.as_bytes(), &address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abstract_and_a_named_socket_are_told() {
        let name = format!("postern-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let named = UnixDatagram::bind(&path).unwrap();
        let nameless = SocketAddr::from_abstract_name(&name).unwrap();
        let nameless = UnixDatagram::bind_addr(&nameless).unwrap();
        send(path.as_os_str().as_encoded_bytes(), "READY=1").unwrap();
        send(format!("@{name}").as_bytes(), "MAINPID=7").unwrap();
        std::fs::remove_file(&path).unwrap();
        for (socket, words) in [(named, "READY=1"), (nameless, "MAINPID=7")] {
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..length], *words.as_bytes());
        }
    }
}

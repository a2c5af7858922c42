//! What is secret in the store is sealed: keys of calls, of the certificate, and the secret all keys derive from. The key to
//! them is in a file of its own, so that whoever has only the store (a backup, a snapshot of its volume) reads none of it.
//!
//! ```text
//!  | synthetic IV, 16 bytes | the record, as long as it is |    AES-SIV (RFC 5297); what the record is called is bound to it
//! ```
//!
//! The file is made at the first start, mode 0600. It may as well be given: anything of 32 bytes or more that nobody guesses.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;

/// Less is no key.
const SHORTEST: usize = 32;

/// Seals and opens.
#[derive(Clone)]
pub struct Seal([u8; 64]);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(…)")
    }
}

impl Seal {
    /// By the key in this file, which is made if nothing needs it yet.
    pub fn from_file(path: &Path, needed: bool) -> io::Result<Seal> {
        let words = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !needed => make(path)?,
            Err(error) => {
                let what = format!("its key {}: {error}; put that file back", path.display());
                return Err(io::Error::new(error.kind(), what));
            }
            Ok(words) => words,
        };
        if words.trim_ascii().len() < SHORTEST {
            let what = format!(
                "its key {} has {} bytes, and {SHORTEST} are the least",
                path.display(),
                words.trim_ascii().len()
            );
            return Err(io::Error::other(what));
        }
        close_to_others(&File::open(path)?, path, "the store's key")?;
        let mut key = [0; 64];
        let mut hasher = blake3::Hasher::new_derive_key("postern store v1");
        hasher.update(words.trim_ascii()).finalize_xof().fill(&mut key);
        Ok(Seal(key))
    }

    /// A record of this name, sealed.
    pub fn seal(&self, name: &str, record: &[u8]) -> Vec<u8> {
        // Fails only for text longer than the cipher's limit, which is far beyond what memory holds.
        Aes256Siv::new(&self.0.into()).encrypt([name.as_bytes()], record).unwrap_or_default()
    }

    /// A record of this name; `None`: it was sealed with another key or for another name, or it was changed.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        Aes256Siv::new(&self.0.into()).decrypt([name.as_bytes()], sealed).ok()
    }
}

/// Where the key of a store is, unless the file says otherwise.
pub fn beside(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".key");
    path.into()
}

/// A new key, in place as a whole or not at all.
fn make(path: &Path) -> io::Result<Vec<u8>> {
    let mut words: String = crate::keys::random().iter().map(|byte| format!("{byte:02x}")).collect();
    words.push('\n');
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(words.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    Ok(words.into_bytes())
}

/// A file that others could read so far is closed to them.
pub(crate) fn close_to_others(file: &File, path: &Path, what: &str) -> io::Result<()> {
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        match file.set_permissions(Permissions::from_mode(0o600)) {
            Ok(()) => {
                tracing::warn!(path = %path.display(), "others could read {what}: its owner alone can now")
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "others can read {what}: chmod 600 it")
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("postern-sealed-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_record_is_opened_under_its_own_name_by_its_own_key_and_as_it_was() {
        let folder = folder("record");
        let seal = Seal::from_file(&folder.join("one.key"), false).unwrap();
        let other = Seal::from_file(&folder.join("two.key"), false).unwrap();
        let sealed = seal.seal("session 7", b"a master key of a call");
        assert_eq!(seal.open("session 7", &sealed).unwrap(), b"a master key of a call");
        assert!(!sealed.windows(6).any(|some| some == b"master"));
        assert_eq!((seal.open("session 8", &sealed), other.open("session 7", &sealed)), (None, None));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(seal.open("session 7", &changed), None, "byte {at}");
        }
        assert_eq!(seal.open("session 7", &sealed[..sealed.len() - 1]), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_key_is_made_once_for_its_owner_alone_and_is_the_same_ever_after() {
        let folder = folder("key");
        let path = folder.join("store.key");
        assert!(
            Seal::from_file(&path, true).is_err() && !path.exists(),
            "a key that is needed is not made up"
        );
        let first = Seal::from_file(&path, false).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Seal::from_file(&path, true).unwrap().0, first.0);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left behind");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_key_of_31_bytes_is_refused_and_one_of_32_taken() {
        let folder = folder("short");
        let path = folder.join("store.key");
        std::fs::write(&path, [b'k'; 31]).unwrap();
        let error = Seal::from_file(&path, true).unwrap_err().to_string();
        assert!(error.contains("has 31 bytes"), "{error}");
        std::fs::write(&path, [b'k'; 32]).unwrap();
        assert!(Seal::from_file(&path, true).is_ok());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

//! The folder of the files that `play media` may play (`relay.ng.media`). Who commands a relay may not read the rest of the machine:
//! whatever a name leads to, by `..`, from the root or along links, is inside or is not read.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use relay::ng::Files;

/// Largest file that is read: a quarter of an hour of 16-bit PCM.
const LARGEST: u64 = 16 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct MediaFolder(PathBuf);

impl MediaFolder {
    pub(crate) fn at(folder: &Path) -> MediaFolder {
        MediaFolder(folder.to_owned())
    }
}

impl Files for MediaFolder {
    fn read(&self, name: &str) -> Result<Vec<u8>, &'static str> {
        let folder = self.0.canonicalize().map_err(|_| "The folder `relay.ng.media` is not there")?;
        let path = folder.join(name).canonicalize().map_err(|_| NOT_THERE)?;
        // What is outside is not told apart from what is not there. A pipe would be waited for.
        if !path.starts_with(&folder) || !path.is_file() {
            return Err(NOT_THERE);
        }
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(|_| "The media file may not be read")?;
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|_| "The media file could not be read")?;
        if bytes.len() as u64 > LARGEST { Err("The media file is larger than 16 MiB") } else { Ok(bytes) }
    }
}

const NOT_THERE: &str = "There is no such media file in the folder `relay.ng.media`";

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test's own, gone with the value.
    struct Outer(PathBuf);

    impl Outer {
        fn new(name: &str) -> Outer {
            let path = std::env::temp_dir().join(format!("postern-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Outer(path)
        }
    }

    impl Drop for Outer {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_inside_is_read_by_its_name_or_whole_path_and_nothing_else_is() {
        let outer = Outer::new("inside");
        let folder = outer.0.join("media");
        std::fs::create_dir_all(folder.join("de")).unwrap();
        std::fs::write(folder.join("de/moh.wav"), "inside").unwrap();
        std::fs::write(outer.0.join("secret"), "outside").unwrap();
        std::fs::create_dir(outer.0.join("media2")).unwrap();
        std::fs::write(outer.0.join("media2/near"), "outside").unwrap();
        std::os::unix::fs::symlink(outer.0.join("secret"), folder.join("link")).unwrap();
        let files = MediaFolder::at(&folder);
        let whole = folder.join("de/moh.wav");
        for name in ["de/moh.wav", "de/../de/moh.wav", whole.to_str().unwrap()] {
            assert_eq!(files.read(name).as_deref(), Ok(&b"inside"[..]), "{name}");
        }
        let outside = outer.0.join("secret");
        let names =
            ["../secret", outside.to_str().unwrap(), "link", "../media2/near", "de", "", "/dev/zero", "a\0b"];
        for name in names {
            assert_eq!(files.read(name), Err(NOT_THERE), "{name:?}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_not_held() {
        let folder = Outer::new("long");
        let file = File::create(folder.0.join("long.wav")).unwrap();
        file.set_len(LARGEST).unwrap();
        let files = MediaFolder::at(&folder.0);
        assert_eq!(files.read("long.wav").map(|bytes| bytes.len() as u64), Ok(LARGEST));
        file.set_len(LARGEST + 1).unwrap();
        assert!(files.read("long.wav").unwrap_err().contains("16 MiB"));
    }
}

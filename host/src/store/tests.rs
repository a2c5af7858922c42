//! What the store keeps, lends, seals, and whom it shuts out.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use super::*;
use proto::tables::Binding;

use crate::bindings::tests::binding;

#[test]
fn what_changes_while_the_file_is_lent_is_written_when_it_is_back() {
    let folder = std::env::temp_dir().join(format!("postern-store-lent-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("test.redb");
    let store = Store::open(&file, None).unwrap();
    let writer = store.writer("relay");
    writer.session(1, Some(b"before"));
    store.lender().lend();
    let other = Store::open(&file, None).unwrap();
    assert_eq!(other.sessions().unwrap(), [(1, b"before".to_vec())]);
    writer.session(2, Some(b"meanwhile"));
    assert!(store.sessions().is_err(), "it is lent");
    drop(other);
    store.lender().take_back();
    drop(store);
    let kept = Store::open(&file, None).unwrap().sessions().unwrap();
    assert_eq!(kept, [(1, b"before".to_vec()), (2, b"meanwhile".to_vec())]);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn its_owner_alone_can_read_it_even_one_that_others_could() {
    let folder = std::env::temp_dir().join(format!("postern-store-private-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("test.redb");
    for before in [None, Some(0o644)] {
        before.into_iter().for_each(|mode| {
            std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        });
        drop(Store::open(&file, None).unwrap());
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{before:?}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("postern-store-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn is_in(file: &Path, words: &[u8]) -> bool {
    std::fs::read(file).unwrap().windows(words.len()).any(|some| some == words)
}

#[test]
fn whoever_has_the_file_alone_reads_no_key_in_it() {
    let folder = folder("sealed");
    let (file, aside) = (folder.join("test.redb"), folder.join("elsewhere"));
    let store = Store::open(&file, Some(&aside)).unwrap();
    let secret = store.secret().unwrap();
    let identity = serde_json::to_vec(&store.identity().unwrap().unwrap()).unwrap();
    store.writer("relay").session(7, Some(b"inline:the-master-key-of-a-call"));
    drop(store);
    assert!(!is_in(&file, &secret) && !is_in(&file, b"the-master-key") && !is_in(&file, &identity));
    let store = Store::open(&file, Some(&aside)).unwrap();
    assert_eq!(store.sessions().unwrap(), [(7, b"inline:the-master-key-of-a-call".to_vec())]);
    drop(store);
    // Without its key it is no store any more, and no new key is made up for it.
    for key in [None, Some(folder.join("another"))] {
        key.iter().for_each(|key| std::fs::write(key, [b'k'; 40]).unwrap());
        let error = Store::open(&file, key.as_deref()).unwrap_err().to_string();
        assert!(error.contains("put that file back"), "{error}");
    }
    assert_eq!(Store::open(&file, Some(&aside)).unwrap().secret().unwrap(), secret);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_store_from_before_it_was_sealed_is_sealed_and_goes_on() {
    let folder = folder("clear");
    let file = folder.join("test.redb");
    let before = Database::create(&file).unwrap();
    let write = before.begin_write().unwrap();
    write.open_table(CLEAR_KEYS).unwrap().insert(SECRET, [7; 32].as_slice()).unwrap();
    let record = b"inline:the-master-key-of-a-call".as_slice();
    write.open_table(CLEAR_SESSIONS).unwrap().insert(1, record).unwrap();
    write.commit().unwrap();
    drop(before);
    assert!(is_in(&file, record));
    for _ in 0..2 {
        let store = Store::open(&file, None).unwrap();
        assert_eq!(store.secret().unwrap(), [7; 32]);
        assert_eq!(store.sessions().unwrap(), [(1, record.to_vec())]);
    }
    assert!(!is_in(&file, record) && !is_in(&file, &[7; 32]));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn bindings_and_the_secret_outlive_the_process() {
    let folder = std::env::temp_dir().join(format!("postern-store-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("test.redb");
    let store = Store::open(&file, None).unwrap();
    let secret = store.secret().unwrap();
    let certificate = format!("{:?}", store.identity().unwrap().unwrap());
    let (bindings, alice) = (Bindings::default(), [binding("sip:a@10.0.0.1")]);
    let put = |aor: &str, some: &[Binding]| {
        let writer = store.writer("proxy");
        bindings.edit(aor, &mut |there| *there = some.to_vec(), |record| writer.bindings(aor, record));
    };
    put("alice@example.org", &alice);
    put("bob@example.org", &[binding("sip:b@10.0.0.1")]);
    put("bob@example.org", &[]);
    drop(store);

    let store = Store::open(&file, None).unwrap();
    assert_eq!(store.secret().unwrap(), secret);
    assert_eq!(format!("{:?}", store.identity().unwrap().unwrap()), certificate);
    let kept = store.bindings("proxy").unwrap();
    assert_eq!((kept.aors(), kept.of("alice@example.org")), (vec!["alice@example.org".into()], alice.into()));
    assert!(["redirect", "prox", "proxy2"].iter().all(|other| store.bindings(other).unwrap().is_empty()));
    drop(store);
    std::fs::remove_dir_all(&folder).unwrap();
}

//! Configuration: one strict YAML file ([`schema`]), read whole, checked whole ([`check`]), then lowered to the
//! services' own configurations ([`lower`]). A file with a fault starts nothing and, at a reload, changes nothing.

mod accounts_file;
pub mod check;
pub mod errors;
pub mod lower;
pub mod peers;
pub mod places;
pub mod schema;
pub mod session_timer;
pub mod shield;
pub mod tls;
pub mod trunks;
pub mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use errors::{ConfigError, EX_CONFIG};
use places::{Place, Places};
use proxy::config::Standing;
use schema::{File, User, Users};
use values::SipAddress;

/// A configuration that was read and found right.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it was read from.
    pub path: PathBuf,
    /// As written, wildcards expanded.
    pub file: File,
    /// The accounts, wherever they were written.
    pub users: Arc<Vec<User>>,
    /// Every file it was made of: what a watcher watches.
    pub sources: Vec<PathBuf>,
    /// What its certificates came to.
    pub tls: tls::Read,
    /// Where in the file the addresses stand that it listens on.
    placed: Vec<(SipAddress, Place)>,
}

impl Settings {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Settings, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
        Settings::from_text(path, &text)
    }

    /// Checks a text that was read from `path`.
    pub fn from_text(path: &Path, text: &str) -> Result<Settings, ConfigError> {
        let file: File = parse(path, text)?;
        let context = check::Context { path, places: &Places::of(text) };
        let mut sources = vec![path.to_owned()];
        let users = match &file.users {
            Users::Inline(users) => users.clone(),
            Users::File(name) => {
                let name = path.parent().unwrap_or(Path::new("")).join(name);
                let users = read_users(&name, &context)?;
                sources.push(name);
                users
            }
        };
        let mut settings = Settings {
            path: path.to_owned(),
            file,
            users: users.into(),
            sources,
            tls: tls::Read::default(),
            placed: Vec::new(),
        };
        check::check(&mut settings, &context)?;
        Ok(settings)
    }
}

impl Settings {
    /// Where in the file an address stands that is listened on, for errors that only a start can find.
    pub fn place_of(&self, address: SipAddress) -> Option<Place> {
        self.placed.iter().find(|(placed, _)| *placed == address).map(|(_, place)| *place)
    }

    /// The same with the addresses that were given out for port 0, in the order of [`Settings::addresses`].
    pub fn listening_on(&self, given: &[SipAddress]) -> Settings {
        let mut settings = self.clone();
        let file = &mut settings.file;
        let listeners =
            file.listeners.iter_mut().filter(|_| file.proxy.is_some()).map(|listener| &mut listener.address);
        let relay = file.relay.iter_mut().flat_map(|relay| {
            let ng = relay.ng.iter_mut().flat_map(|ng| &mut ng.listen);
            std::iter::once(&mut relay.address).chain(ng)
        });
        let redirect = file.redirect.iter_mut().map(|redirect| &mut redirect.address);
        // Of an access server's addresses only the first may be given out: STUN's are written in full.
        let others = file.access.iter().map(|access| access.addresses().len()).sum::<usize>();
        let access = file.access.iter_mut().map(|access| &mut access.address);
        let reflector = file.reflector.iter_mut().map(|reflector| &mut reflector.address);
        let before = listeners.chain(relay).chain(redirect).chain(access);
        let mut given = given.iter();
        for (address, given) in before.zip(given.by_ref()) {
            if address.addr.port() == 0 && address.transport == given.transport {
                *address = *given;
            }
        }
        for (address, given) in reflector.zip(given.skip(others.saturating_sub(1))) {
            if address.addr.port() == 0 && address.transport == given.transport {
                *address = *given;
            }
        }
        settings
    }

    /// Lets go of the accounts: tables have them by now, in less room.
    pub fn forget_users(&mut self) {
        self.users = Arc::default();
    }

    /// The same for a file that takes the place of a running one; listeners are looked after by [`crate::reload`].
    pub fn give_other_ports(&mut self, running: &File) {
        let own = |file: &File| if file.proxy.is_some() { file.listeners.len() } else { 0 };
        let mut given: Vec<SipAddress> =
            self.file.listeners.iter().map(|listener| listener.address).collect();
        given.truncate(own(&self.file));
        let closed = |listener: &&schema::Listener| listener.standing == Standing::Closed;
        let open = own(running).saturating_sub(running.listeners.iter().filter(closed).count());
        given.extend(running.addresses().into_iter().skip(open));
        *self = self.listening_on(&given);
    }

    /// Whether a PBX keeps the accounts, and so judges all credentials.
    pub fn has_pbx(&self) -> bool {
        self.file.proxy.as_ref().is_some_and(|proxy| proxy.mid_registrar.is_some())
    }

    /// See [`File::addresses`].
    pub fn addresses(&self) -> Vec<SipAddress> {
        self.file.addresses()
    }
}

impl File {
    /// Reads a file as it is written, and checks nothing.
    pub fn read(path: &Path) -> Result<File, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
        parse(path, &text)
    }

    /// Every address it listens on: the proxy's, the relay's (the ng ones behind it), the redirect server's, the access
    /// server's (STUN's behind it), the reflector's.
    pub fn addresses(&self) -> Vec<SipAddress> {
        let there =
            |listener: &&schema::Listener| self.proxy.is_some() && listener.standing != Standing::Closed;
        let listeners = self.listeners.iter().filter(there).map(|listener| listener.address);
        let relay = self.relay.iter().flat_map(schema::Relay::addresses);
        let redirect = self.redirect.iter().map(|redirect| redirect.address);
        let access = self.access.iter().flat_map(peers::Access::addresses);
        let reflector = self.reflector.iter().map(|reflector| reflector.address);
        listeners.chain(relay).chain(redirect).chain(access).chain(reflector).collect()
    }
}

/// An empty file is a mapping with nothing in it.
fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    match serde_yaml::from_str::<Option<File>>(text) {
        Ok(file) => Ok(file.unwrap_or_default()),
        Err(error) => Err(ConfigError::from_yaml(path, &error)),
    }
}

fn read_users(name: &Path, context: &check::Context<'_>) -> Result<Vec<User>, ConfigError> {
    let unreadable = |error: std::io::Error| {
        let what = format!("{} cannot be read: {error}", name.display());
        context.error("users", what, "name a readable file, or list the users here")
    };
    accounts_file::read(name).map_err(unreadable)?
}

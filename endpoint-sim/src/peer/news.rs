//! What is worth telling while it happens: how the login went, who is met by which path and why, and where a call's media goes. One
//! event for each change, none per packet.

use std::net::SocketAddr;

use proto::event::{Event, Name};
use proto::node::Output;

use super::node::Peer;

/// How things stood when they were told of last.
#[derive(Debug, Default)]
pub(super) struct Told {
    login: Option<(u16, Option<SocketAddr>)>,
    /// By link: how it is met, if it is online.
    buddies: Vec<Option<Met>>,
    call: Call,
    /// Whom the call is with.
    pub(super) with: String,
}

/// A path to a buddy, and where that is if it is direct.
type Met = (&'static str, Option<SocketAddr>);

/// A call, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Call {
    #[default]
    None,
    /// It is up, and its media goes by this.
    Up(&'static str),
    /// It has ended; it was not answered, but with this.
    Over(Option<u16>),
}

impl Peer {
    /// Tells what has changed.
    pub(super) fn tell_news(&mut self) {
        if !self.leaving {
            self.tell_login();
            self.tell_buddies();
            self.tell_call();
        }
    }

    fn tell(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    fn tell_login(&mut self) {
        let external = self.report.external.filter(|_| self.report.logged_in);
        let now = self.report.login_status.map(|status| (status, external));
        let Some((status, external)) = now.filter(|_| now != self.told.login) else { return };
        self.told.login = now;
        let (peer, behind) = (self.report.name.as_str().into(), self.ours());
        self.tell(Event::PeerLogin { peer, status, external, behind });
    }

    fn tell_buddies(&mut self) {
        self.told.buddies.resize(self.links.len(), None);
        for place in 0..self.links.len() {
            let link = &self.links[place];
            // While it is too early to say which path, nothing is told.
            let met = match link.online {
                true if link.via(self.now).is_none() => continue,
                true => Some(link.path(self.now)),
                false => None,
            };
            if met == self.told.buddies[place] {
                continue;
            }
            let peer = self.report.name.as_str().into();
            let (buddy, path, at) = (link.aor.as_str().into(), met.map(|it| it.0), met.and_then(|it| it.1));
            let why = path.map_or(Name::default(), |path| link.why(path).into());
            self.told.buddies[place] = met;
            self.tell(Event::PeerBuddy { peer, buddy, path, at, why });
        }
    }

    fn tell_call(&mut self) {
        let phone = self.voice.phone.report();
        let now = match (phone.answered, phone.ended_by, phone.call_status) {
            (true, None, _) => Call::Up(self.voice.path()),
            (true, Some(_), _) => Call::Over(None),
            (false, _, Some(status)) if status >= 300 => Call::Over(Some(status)),
            _ => Call::None,
        };
        if now == self.told.call {
            return;
        }
        if let Some(with) = self.voice.phone.talks_with() {
            self.told.with = with.to_owned();
        }
        self.told.call = now;
        let (peer, with) = (self.report.name.as_str().into(), self.told.with.as_str().into());
        match now {
            Call::Up(path) => self.tell(Event::PeerCall { peer, with, path: Some(path), status: None }),
            Call::Over(status) => self.tell(Event::PeerCall { peer, with, path: None, status }),
            Call::None => {}
        }
    }
}

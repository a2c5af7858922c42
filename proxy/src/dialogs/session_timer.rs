//! Session timers as a proxy has them (RFC 4028 §8): a request may be asked to name one, one that is too long is shortened,
//! one that is too short is refused, and where only the caller's end knows them the answer is completed, so that calls whose
//! ends have died are noticed.
//!
//! | the request | leaves with |
//! |---|---|
//! | names none | ours, or its Min-SE if that is longer |
//! | names a longer one than ours | ours, or its Min-SE |
//! | names a shorter one than our least | refused: 422 with Min-SE; from a client that knows no session timers: our least |
//! | names any other | as it came |
//!
//! | the 2xx | goes back |
//! |---|---|
//! | names one, or neither end knows them | as it came |
//! | names none, but the caller knows them | with the one that left, the caller refreshing |

use std::time::Duration;

use proto::sip::{Edit, Message, Method, Name};

use crate::config::SessionTimer;
use crate::forwarding::contexts::Context;
use crate::gate::validate::Refusal;
use crate::proxy::Proxy;

/// §5: no session timer is shorter.
pub(crate) const LEAST: Duration = Duration::from_secs(90);

/// A session that expires sooner than we let any, of somebody who can do better (§8.1).
pub(crate) fn refuse(request: &Message, timer: Option<SessionTimer>) -> Result<(), Refusal> {
    let Some(timer) = timer.filter(|_| negotiates(request) && knows(request)) else { return Ok(()) };
    let least = seconds(timer.min);
    match expires(request) {
        Some(asked) if asked < least => {
            let header = Some((Name::MinSe, least.to_string()));
            Err(Refusal { header, ..Refusal::new(422, "Session-Expires is less than our least") })
        }
        _ => Ok(()),
    }
}

/// How long the session may last without a refresh as the request leaves us; `None`: as it came.
pub(crate) fn changed(request: &Message, timer: Option<SessionTimer>) -> Option<u32> {
    let timer = timer.filter(|_| negotiates(request))?;
    let least = number(request, Name::MinSe).unwrap_or(0).max(seconds(timer.min));
    let ours = seconds(timer.expires).max(least);
    match expires(request) {
        None => Some(ours),
        Some(asked) if asked > ours => Some(ours),
        Some(asked) if asked < seconds(timer.min) => Some(seconds(timer.min)),
        Some(_) => None,
    }
}

/// What a response says of it, in seconds.
pub(crate) fn expires(message: &Message) -> Option<u32> {
    number(message, Name::SessionExpires)
}

impl Proxy {
    /// The session timer of a request on its way. Who refreshes stays as it is.
    pub(crate) fn session_timer_of_request<'m>(&self, edit: Edit<'m>, request: &'m Message) -> Edit<'m> {
        let Some(expires) = changed(request, self.config.session_timer) else { return edit };
        let edit = match self::expires(request) {
            Some(asked) if asked < expires => edit.set(Name::MinSe, &expires.to_string()),
            _ => edit,
        };
        let params = request.text(Name::SessionExpires).and_then(|value| value.split_once(';'));
        let params = params.map_or(String::new(), |(_, params)| format!(";{params}"));
        edit.set(Name::SessionExpires, &format!("{expires}{params}"))
    }

    /// What a 2xx has to say besides when its sender knows no session timers and the caller does (§8.2).
    pub(crate) fn session_timer_to_add(&self, context: &Context, response: &Message) -> Option<u32> {
        let request = &context.request;
        let success = response.status().is_some_and(|status| (200..300).contains(&status));
        let silent = success && negotiates(request) && expires(response).is_none();
        let left = changed(request, self.config.session_timer).or(expires(request));
        left.filter(|_| self.config.session_timer.is_some() && silent && knows(request))
    }

    /// The 2xx with it.
    pub(crate) fn session_timer_of_response<'m>(
        &self,
        edit: Edit<'m>,
        context: &Context,
        response: &'m Message,
    ) -> Edit<'m> {
        match self.session_timer_to_add(context, response) {
            Some(expires) => edit
                .append(Name::SessionExpires, &format!("{expires};refresher=uac"))
                .append(Name::Require, "timer"),
            None => edit,
        }
    }
}

fn negotiates(request: &Message) -> bool {
    matches!(request.method(), Method::Invite | Method::Update)
}

/// Whether the client knows session timers (§7.1).
fn knows(request: &Message) -> bool {
    request.has_token(Name::Supported, "timer")
}

fn number(message: &Message, name: Name) -> Option<u32> {
    message.text(name)?.split(';').next()?.trim().parse().ok()
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

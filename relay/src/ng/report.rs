//! `query`, `list`, `statistics`: in rtpengine's keys, as far as there is something to say under them, and with what this
//! relay knows besides.

use std::net::SocketAddr;
use std::time::{Instant, UNIX_EPOCH};

use proto::event::Side;

use super::calls::{Call, Dialog, Said};
use super::command::Target;
use super::value::{Dict, Value};
use super::{Answer, COMMANDS, Refused, ok};
use crate::leg::{Channel, Leg};
use crate::relay::Relay;
use crate::session::index;

impl Relay {
    /// How a call is.
    pub(crate) fn query(&self, now: Instant, target: &Target) -> Answer {
        let call = self.ng.calls.by_id.get(&target.call).ok_or(Refused::Error("Unknown call-id"))?;
        let mut tags = Dict::default();
        let (mut rtp, mut rtcp) = ([0; 2], [0; 2]);
        for at in call.meant(target) {
            let dialog = &call.dialogs[at];
            for side in [Side::Caller, Side::Callee] {
                let end = &dialog.ends[index(side)];
                let Some(tag) = &end.tag else { continue };
                if !tags.0.iter().any(|(known, _)| **known == *tag.as_bytes()) {
                    tags.set(tag.clone(), Value::Dict(self.tag(call, dialog, side)));
                }
            }
            let legs = self.sessions.get(&dialog.session.0).into_iter().flat_map(|session| session.legs());
            for leg in legs.filter_map(|leg| self.legs.get(leg as usize)) {
                rtp = [rtp[0] + leg.packets - leg.rtcp_packets, rtp[1] + leg.bytes];
                rtcp = [rtcp[0] + leg.rtcp_packets, rtcp[1]];
            }
        }
        let totals = Dict::default()
            .with("RTP", counters(rtp[0], rtp[1], 0))
            .with("RTCP", counters(rtcp[0], rtcp[1], 0));
        let begun = self.birth.wall_at(call.begun).duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Dict::default()
            .with("SSRC", Value::Dict(self.sources(now, call)))
            .with("created", number(begun.as_secs()))
            .with("created_us", number(u64::from(begun.subsec_micros())))
            .with("last signal", number(self.birth.unix_at(call.signalled)))
            .with("result", Value::text("ok"))
            .with("tags", Value::Dict(tags))
            .with("totals", Value::Dict(totals)))
    }

    fn tag(&self, call: &Call, dialog: &Dialog, side: Side) -> Dict<'static> {
        let end = &dialog.ends[index(side)];
        let mut dict = Dict::default().with("created", number(self.birth.unix_at(call.begun)));
        if let Some(label) = &end.label {
            dict.set("label", Value::text(label.clone()));
        }
        let streams =
            self.sessions.get(&dialog.session.0).map(|session| session.streams.clone()).unwrap_or_default();
        let leg = |at: usize| {
            streams.get(at).copied().flatten().and_then(|s| self.legs.get(s.legs[index(side)] as usize))
        };
        let medias =
            end.said.iter().enumerate().map(|(at, said)| Value::Dict(self.section_report(at, said, leg(at))));
        dict.set("medias", Value::List(medias.collect()));
        dict.set("tag", Value::text(end.tag.clone().unwrap_or_default()));
        if let Some(branch) = dialog.branch.as_ref().filter(|_| side == Side::Callee) {
            dict.set("via-branch", Value::text(branch.clone()));
        }
        if let Some(other) = &dialog.ends[index(side.other())].tag {
            dict.set("in dialogue with", Value::text(other.clone()));
        }
        dict
    }

    fn section_report(&self, at: usize, said: &Said, leg: Option<&Leg>) -> Dict<'static> {
        let streams = leg.map(|leg| {
            let rtcp = leg.rtcp.as_ref().map(|rtcp| self.stream(leg, rtcp, "RTCP"));
            [Some(self.stream(leg, &leg.media, "RTP")), rtcp].into_iter().flatten().collect::<Vec<_>>()
        });
        Dict::default()
            .with("index", number(at as u64 + 1))
            .with("protocol", Value::text(said.protocol.clone()))
            .with("streams", Value::List(streams.unwrap_or_default()))
            .with("type", Value::text(said.media.clone()))
    }

    fn stream(&self, leg: &Leg, channel: &Channel, what: &'static str) -> Value<'static> {
        let network = &self.config.networks[channel.port.id.network()];
        let heard = channel.latched.or(channel.target).or(channel.signalled);
        let last = leg.heard.map_or(0, |heard| self.birth.unix_at(heard));
        let media = what == "RTP";
        let (packets, bytes) =
            if media { (leg.packets - leg.rtcp_packets, leg.bytes) } else { (leg.rtcp_packets, 0) };
        let mut flags = vec![Value::text(what)];
        flags.extend(channel.latched.map(|_| Value::text("confirmed")));
        Value::Dict(
            Dict::default()
                .with("endpoint", endpoint(heard))
                .with("family", Value::text(if network.bind.is_ipv4() { "IPv4" } else { "IPv6" }))
                .with("flags", Value::List(flags))
                .with("last packet", number(last))
                .with("local address", Value::text(network.advertise.to_string()))
                .with("local port", number(u64::from(channel.port.number)))
                .with("stats", counters(packets, bytes, leg.strangers)),
        )
    }

    /// By SSRC: what was heard of each source.
    fn sources(&self, _now: Instant, call: &Call) -> Dict<'static> {
        let mut sources = Dict::default();
        let sessions = call.dialogs.iter().filter_map(|dialog| self.sessions.get(&dialog.session.0));
        for leg in sessions.flat_map(|session| session.legs()).filter_map(|leg| self.legs.get(leg as usize)) {
            let round_trip = leg.reports().round_trip.map_or(0, |trip| trip.as_micros() as u32);
            for (ssrc, heard) in leg.tracks.heard() {
                let mos = Dict::default().with("MOS", number(u64::from(heard.mos) / 10));
                let source = Dict::default()
                    .with("average MOS", Value::Dict(mos))
                    .with("codec", Value::text(heard.codec))
                    .with("digits", number(u64::from(heard.digits)))
                    .with("lost in a row", number(u64::from(heard.burst)))
                    .with("round trip", number(u64::from(round_trip)))
                    .with("jitter", number(u64::from(heard.jitter_us) / 1000))
                    .with("packets", number(heard.packets))
                    .with("packets lost", number(heard.lost));
                sources.set(ssrc.to_string(), Value::Dict(source));
            }
        }
        sources
    }

    /// Calls by name.
    pub(crate) fn list(&self, limit: usize) -> Dict<'static> {
        let calls = self.ng.calls.by_id.keys().take(limit).map(Value::text).collect();
        Dict::default().with("calls", Value::List(calls)).with("result", Value::text("ok"))
    }

    /// How everything is.
    pub(crate) fn statistics(&self, now: Instant) -> Dict<'static> {
        let statistics = Dict::default()
            .with("controlstatistics", Value::Dict(self.control_statistics()))
            .with("currentstatistics", Value::Dict(self.current_statistics()))
            .with("interfaces", Value::List(self.interfaces()))
            .with("totalstatistics", Value::Dict(self.total_statistics(now)));
        ok().with("statistics", Value::Dict(statistics))
    }

    fn current_statistics(&self) -> Dict<'static> {
        let calls = self.ng.calls.by_id.len() as u64;
        let sessions = self.sessions.len() as u64;
        Dict::default()
            .with("media_kernel", number(0))
            .with("media_userspace", number(sessions))
            .with("sessionsforeign", number(0))
            .with("sessionsown", number(calls))
            .with("sessionstotal", number(calls))
            .with("transcodedmedia", number(0))
    }

    fn total_statistics(&self, now: Instant) -> Dict<'static> {
        let ended = self.ng.ended;
        let dropped: u64 = self.traffic.dropped.iter().sum();
        let uptime = now.saturating_duration_since(self.birth.now).as_secs();
        Dict::default()
            .with("managedsessions", number(ended.deleted + ended.silent))
            .with("regularterminatedsessions", number(ended.deleted))
            .with("rejectedsessions", number(ended.rejected))
            .with("relayedbytes", number(self.traffic.bytes))
            .with("relayedpackets", number(self.traffic.forwarded))
            .with("relayedpacketerrors", number(dropped))
            .with("timeoutsessions", number(ended.silent))
            .with("uptime", Value::text(uptime.to_string()))
    }

    fn control_statistics(&self) -> Dict<'static> {
        let counts = self.ng.counts;
        let mut dict = Dict::default();
        for (name, count) in COMMANDS.iter().zip(self.ng.by_command) {
            dict.set(format!("total{name}count"), number(count));
        }
        dict.with("errorcount", number(counts.errors))
            .with("repeatedcount", number(counts.repeated))
            .with("ignoredcount", number(counts.ignored))
            .with("unknownflagcount", number(counts.unknown_words))
    }

    fn interfaces(&self) -> Vec<Value<'static>> {
        let interface = |at: usize| {
            let network = &self.config.networks[at];
            let ports = self.pool.count_in(at);
            let total = u64::from(*self.config.ports.end() - *self.config.ports.start()) + 1;
            let used = ports.leased as u64;
            let ports = Dict::default()
                .with("free", number(total.saturating_sub(used)))
                .with("max", number(u64::from(*self.config.ports.end())))
                .with("min", number(u64::from(*self.config.ports.start())))
                .with("totals", number(total))
                .with("used", number(used));
            Value::Dict(
                Dict::default()
                    .with("address", Value::text(network.advertise.to_string()))
                    .with("name", Value::text(network.name.clone()))
                    .with("ports", Value::Dict(ports)),
            )
        };
        self.config.lent().map(interface).collect()
    }
}

fn number(number: u64) -> Value<'static> {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn counters(packets: u64, bytes: u64, errors: u64) -> Value<'static> {
    Value::Dict(
        Dict::default()
            .with("bytes", number(bytes))
            .with("errors", number(errors))
            .with("packets", number(packets)),
    )
}

fn endpoint(address: Option<SocketAddr>) -> Value<'static> {
    let Some(address) = address else { return Value::Dict(Dict::default()) };
    Value::Dict(
        Dict::default()
            .with("address", Value::text(address.ip().to_string()))
            .with("family", Value::text(if address.is_ipv4() { "IPv4" } else { "IPv6" }))
            .with("port", number(u64::from(address.port()))),
    )
}

//! An endpoint that does nothing but find out which NAT it is behind.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::node::{Birth, Dice, Input, Node, Output};
use proto::tables::Tables;

use super::classifier::{Classifier, Findings};
use super::life::{self, Life};

/// A [`Classifier`], and if wanted a [`Life`], as a node.
#[derive(Debug)]
pub struct Surveyor {
    dice: Dice,
    classifier: Classifier,
    life: Option<Life>,
    out: VecDeque<Output>,
}

impl Surveyor {
    /// Asks `server` from `local`; with `life`, how long mappings live, too, which takes minutes.
    pub fn new(birth: Birth, local: SocketAddr, server: SocketAddr, life: bool) -> Surveyor {
        let (mut dice, mut out) = (birth.dice(0x5027), VecDeque::new());
        let classifier = Classifier::new(birth.now, local, server, &mut dice, &mut out);
        let life = life.then(|| Life::new(local, server, life::ALL, &mut dice, &mut out));
        Surveyor { dice, classifier, life, out }
    }

    /// What was found out, once all is known.
    pub fn findings(&self) -> Option<Findings> {
        let life = match &self.life {
            Some(life) => life.result()?,
            None => None,
        };
        let mut findings = self.classifier.is_over().then(|| self.classifier.findings())?;
        findings.verdict.life_ms = life.map(|life: Duration| life.as_millis() as u32);
        Some(findings)
    }
}

impl Node for Surveyor {
    fn handle(&mut self, now: Instant, input: Input, _: &mut dyn Tables) {
        match input {
            Input::Other { bytes, .. } => drop(self.classifier.receive(None, &bytes)),
            Input::Media { socket, bytes, .. } => match self.life.as_mut().filter(|life| life.owns(socket)) {
                Some(life) => life.receive(now, socket, &bytes, &mut self.dice),
                None => drop(self.classifier.receive(Some(socket), &bytes)),
            },
            Input::Bound { ticket, socket, local } => {
                match self.life.as_mut().filter(|_| ticket.0 < super::classifier::SCRATCH_TICKET) {
                    Some(life) => life.bound(now, ticket, socket),
                    None => self.classifier.bound(ticket, Some((socket, local)), &mut self.out),
                }
            }
            Input::BindFailed { ticket, .. } => self.classifier.bound(ticket, None, &mut self.out),
            _ => {}
        }
        self.classifier.wake(now, &mut self.dice, &mut self.out);
        if let Some(life) = &mut self.life {
            life.wake(now, &mut self.out);
        }
    }

    fn poll(&mut self, _: &mut dyn Tables) -> Option<Output> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        self.classifier.deadline().into_iter().chain(self.life.as_ref().and_then(Life::deadline)).min()
    }
}

//! Commands: from PUBLISH to the one acknowledgement that reports the commit.

use super::{Action, Command, Failure, Outcome, Session, Violation};
use crate::{
    packet::{AckProperties, Out, PacketId, Publish, Qos, Reason, Version},
    rate::lane_of,
};
use std::time::Instant;

/// QoS 2 commands not yet released, also those of earlier connections; more end the connection.
pub(super) const MAX_RECEIVED: usize = 1024;

/// State of a QoS 2 command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Not committed yet.
    Pending,
    /// PUBREC was sent, PUBREL is due. `stored`: with the session, beyond this process.
    Recorded { stored: bool },
    /// PUBREL has come; PUBCOMP is sent when that is stored.
    Forgetting,
}

impl Session {
    pub(super) fn handle_publish(&mut self, mut publish: Publish, now: Instant) -> Result<(), Violation> {
        self.aliases.resolve(&mut publish)?;
        self.held_until = self.rates.count(lane_of(&self.subscriptions.space().expand(&publish.topic)), now);
        self.take_quota(&publish)?;
        if publish.qos == Qos::ExactlyOnce
            && let Some(id) = publish.packet_id
        {
            match self.received.get(&id) {
                // Sent again: the first one is under way, or its PUBREC was lost. One effect either way.
                Some(Received::Pending) => return Ok(()),
                Some(Received::Recorded { .. } | Received::Forgetting) => {
                    self.out.push_back(Out::PubRec(id, Reason::Success, AckProperties::default()));
                    return Ok(());
                }
                None if self.received.len() >= MAX_RECEIVED => {
                    return Err((Reason::QuotaExceeded, "too many publications wait for their PUBREL"));
                }
                None => self.received.insert(id, Received::Pending),
            };
        }
        if self.is_throttled(publish.qos) {
            self.commands += 1;
        }
        let Publish { topic, payload, qos, retain, packet_id, properties, .. } = publish;
        let command = Command { topic, payload, qos, retain, packet_id, properties };
        self.actions.push_back(Action::Command(command));
        Ok(())
    }

    /// Section 3.3.4: who has more than Receive Maximum on the way is sent away.
    fn take_quota(&mut self, publish: &Publish) -> Result<(), Violation> {
        let holds = match (self.version, publish.qos, publish.packet_id) {
            (Version::V5, Qos::AtLeastOnce, _) => self.quota.take_at_least_once(),
            (Version::V5, Qos::ExactlyOnce, Some(id)) => self.quota.take_exactly_once(id),
            _ => true,
        };
        if holds {
            Ok(())
        } else {
            Err((Reason::ReceiveMaximumExceeded, "more publications than Receive Maximum [MQTT-3.3.4-7]"))
        }
    }

    /// Whether too many of these make the connection read no further. Not of those that Receive Maximum bounds.
    fn is_throttled(&self, qos: Qos) -> bool {
        self.version == Version::V3 || qos == Qos::AtMostOnce
    }

    /// A command ended. The only way to a PUBACK or PUBREC. Call it in the order the commands were handed out. Once the
    /// connection closes nothing is acknowledged any more `[MQTT-3.14.4-1]`; what a QoS 2 command came to is still noted
    /// for the session's return.
    pub fn command_done(&mut self, command: &Command, outcome: Outcome) {
        if self.is_throttled(command.qos) {
            self.commands = self.commands.saturating_sub(1);
        }
        let stored = matches!(outcome, Outcome::Done { recorded: true, .. });
        let (reason, properties) = match outcome {
            // The order of what follows would break, and it was never acknowledged either.
            Outcome::TryLater => {
                return self.close(Reason::ServerBusy, "a command could not be stored now; try again");
            }
            Outcome::Done { properties, .. } => {
                (Reason::Success, AckProperties { reason_string: None, user_properties: properties })
            }
            Outcome::Refused { reason, code, detail, local_id } => {
                let properties = AckProperties {
                    reason_string: Some(format!("{}: {detail}", code.as_str())),
                    ..AckProperties::default()
                };
                if self.version == Version::V3 || command.qos == Qos::AtMostOnce {
                    let Command { topic, packet_id, .. } = command.clone();
                    self.failures.push_back(Failure { topic, packet_id, code, detail, local_id });
                }
                (reason, properties)
            }
        };
        let Some(id) = command.packet_id else { return };
        match command.qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => {
                self.quota.give_at_least_once();
                self.acknowledge(Out::PubAck(id, reason, properties));
            }
            Qos::ExactlyOnce => {
                // A refusal ends the exchange in 5 `[MQTT-4.3.3-9]`; 3.1.1 has no word for it and goes on to PUBREL.
                if reason == Reason::Success || self.version == Version::V3 {
                    self.received.insert(id, Received::Recorded { stored });
                } else {
                    self.received.remove(&id);
                    self.quota.give_exactly_once(id);
                }
                self.acknowledge(Out::PubRec(id, reason, properties));
            }
        }
    }

    fn acknowledge(&mut self, acknowledgement: Out) {
        if !self.closed {
            self.out.push_back(acknowledgement);
        }
    }

    /// PUBREL frees the packet identifier of a publication at QoS 2.
    pub(super) fn handle_pubrel(&mut self, id: PacketId) {
        match self.received.get(&id) {
            Some(Received::Recorded { stored: true }) => {
                self.received.insert(id, Received::Forgetting);
                self.forget_received(id);
            }
            Some(Received::Recorded { stored: false }) => {
                self.received.remove(&id);
                self.quota.give_exactly_once(id);
                self.out.push_back(Out::PubComp(id, Reason::Success));
            }
            Some(Received::Forgetting) => {}
            Some(Received::Pending) | None => {
                self.out.push_back(Out::PubComp(id, Reason::PacketIdentifierNotFound));
            }
        }
    }

    /// A refusal that the client has not been told of by an acknowledgement.
    pub fn poll_failure(&mut self) -> Option<Failure> {
        self.failures.pop_front()
    }
}

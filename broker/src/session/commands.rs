//! Commands: from PUBLISH to the one acknowledgement that reports the commit.

use super::{Action, Command, Failure, Outcome, Session, Violation};
use crate::packet::{AckProperties, Out, Publish, Qos, Reason, Version};

/// QoS 2 commands acknowledged with PUBREC and not yet released; more end the connection.
pub(super) const MAX_RECEIVED: usize = 1024;

/// State of a QoS 2 command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Not committed yet.
    Pending,
    /// PUBREC was sent, PUBREL is due.
    Recorded,
}

impl Session {
    pub(super) fn handle_publish(&mut self, publish: Publish) -> Result<(), Violation> {
        if publish.properties.topic_alias.is_some() {
            return Err((Reason::TopicAliasInvalid, "no topic alias was offered [MQTT-3.3.2-9]"));
        }
        if publish.qos == Qos::ExactlyOnce
            && let Some(id) = publish.packet_id
        {
            match self.received.get(&id) {
                // Sent again: the first one is under way, or its PUBREC was lost. One effect either way.
                Some(Received::Pending) => return Ok(()),
                Some(Received::Recorded) => {
                    self.out.push_back(Out::PubRec(id, Reason::Success, AckProperties::default()));
                    return Ok(());
                }
                None if self.received.len() >= MAX_RECEIVED => {
                    return Err((
                        Reason::ReceiveMaximumExceeded,
                        "too many publications wait for their PUBREL",
                    ));
                }
                None => self.received.insert(id, Received::Pending),
            };
        }
        self.commands += 1;
        let Publish { topic, payload, qos, packet_id, .. } = publish;
        self.actions.push_back(Action::Command(Command { topic, payload, qos, packet_id }));
        Ok(())
    }

    /// A command ended. The only way to a PUBACK or PUBREC. Call it in the order the commands were handed out. Once the
    /// connection closes nothing is acknowledged any more `[MQTT-3.14.4-1]`; what a QoS 2 command came to is still noted
    /// for the session's return.
    pub fn command_done(&mut self, command: &Command, outcome: Outcome) {
        self.commands = self.commands.saturating_sub(1);
        let (reason, properties) = match outcome {
            // The order of what follows would break, and it was never acknowledged either.
            Outcome::TryLater => {
                return self.close(Reason::ServerBusy, "a command could not be stored now; try again");
            }
            Outcome::Done { properties } => {
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
            Qos::AtLeastOnce => self.acknowledge(Out::PubAck(id, reason, properties)),
            Qos::ExactlyOnce => {
                // A refusal ends the exchange in 5 `[MQTT-4.3.3-9]`; 3.1.1 has no word for it and goes on to PUBREL.
                if reason == Reason::Success || self.version == Version::V3 {
                    self.received.insert(id, Received::Recorded);
                } else {
                    self.received.remove(&id);
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

    /// A refusal that the client has not been told of by an acknowledgement.
    pub fn poll_failure(&mut self) -> Option<Failure> {
        self.failures.pop_front()
    }
}

//! Receive Maximum, inbound: how many publications at QoS 1 and 2 a client may have without their last acknowledgement
//! (MQTT 5, section 4.9). 3.1.1 has no such thing; there the connection is just not read meanwhile.

use super::MAX_COMMANDS;
use crate::packet::PacketId;
use std::collections::HashSet;

/// What one connection has been sent at QoS 1 and 2 and not acknowledged for good. Begins anew with each connection, as the
/// client's own count does: what a session brings along from an earlier one is not in it.
#[derive(Debug, Default)]
pub(super) struct Quota {
    at_least_once: u16,
    exactly_once: HashSet<PacketId>,
}

impl Quota {
    /// A publication at QoS 1; `false`: one too many `[MQTT-3.3.4-7]`.
    pub(super) fn take_at_least_once(&mut self) -> bool {
        self.at_least_once += 1;
        self.holds()
    }

    /// A publication at QoS 2, perhaps one that was sent before; `false`: one too many.
    pub(super) fn take_exactly_once(&mut self, id: PacketId) -> bool {
        self.exactly_once.insert(id);
        self.holds()
    }

    /// PUBACK.
    pub(super) fn give_at_least_once(&mut self) {
        self.at_least_once = self.at_least_once.saturating_sub(1);
    }

    /// PUBCOMP, or PUBREC that refuses.
    pub(super) fn give_exactly_once(&mut self, id: PacketId) {
        self.exactly_once.remove(&id);
    }

    fn holds(&self) -> bool {
        usize::from(self.at_least_once) + self.exactly_once.len() <= usize::from(MAX_COMMANDS)
    }
}

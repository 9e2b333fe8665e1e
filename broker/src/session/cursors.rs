//! Acknowledgements of rows move the cursors, which are stored now and then.

use super::{Action, Session, Violation, stream_of, window::Flight};
use crate::packet::{PacketId, Qos, Reason};
use curlew_domain::{
    ids::{Seq, Stream, StreamId},
    session::Cursors,
};
use std::time::{Duration, Instant};

/// Acknowledgements after which the cursor map is stored …
pub(super) const FLUSH_AFTER: u32 = 256;
/// … and the longest it waits.
pub(super) const FLUSH_INTERVAL: Duration = Duration::from_secs(30);

impl Session {
    pub(super) fn handle_puback(&mut self, id: PacketId, now: Instant) -> Result<(), Violation> {
        match self.window.find(id) {
            // Ignored: there is no answer to it, and it does no harm.
            None => {}
            Some(Flight::Row((stream, seq))) => {
                self.window.acknowledge(id);
                let cursor = self.streams.acknowledge(stream, seq);
                self.cursor_moved(stream, cursor, true, now);
            }
            Some(Flight::Plain { qos: Qos::ExactlyOnce, .. }) => {
                return Err((Reason::ProtocolError, "PUBACK for what was sent at QoS 2"));
            }
            Some(Flight::Plain { .. }) => self.finish_plain(id, now),
        }
        Ok(())
    }

    pub(super) fn cursor_moved(
        &mut self,
        stream: StreamId,
        cursor: Option<Seq>,
        delivered: bool,
        now: Instant,
    ) {
        self.unflushed += 1;
        self.flush_due.get_or_insert(now + FLUSH_INTERVAL);
        if let (Some(seq), Stream::Chat(chat), true) = (cursor, stream_of(self.me, stream), delivered) {
            self.actions.push_back(Action::Acknowledged(chat, seq));
        }
        if self.unflushed >= FLUSH_AFTER {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        // A map that is older than the filters being stored must not replace theirs.
        if !self.flushing && self.unflushed > 0 && self.saving.is_none() {
            self.flushing = true;
            self.unflushed = 0;
            self.flush_due = None;
            self.actions.push_back(Action::SaveCursors(self.streams.cursors()));
        }
    }

    /// The cursor map was stored, or was not: it is tried again with the next acknowledgements.
    pub fn cursors_saved(&mut self, stored: bool, now: Instant) {
        self.flushing = false;
        if !stored {
            self.unflushed += 1;
            self.flush_due.get_or_insert(now + FLUSH_INTERVAL);
        }
    }

    /// The cursor map as acknowledged so far.
    pub fn cursors(&self) -> Cursors {
        self.streams.cursors()
    }
}

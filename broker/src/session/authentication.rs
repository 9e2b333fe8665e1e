//! AUTH: re-authentication (MQTT 5, section 4.12.1). One step: the client sends a token, the server says yes or ends the
//! connection.

use super::{Action, Session, Violation};
use crate::packet::{Out, Reason};
use bytes::Bytes;

/// The one authentication method.
pub const TOKEN_METHOD: &str = "token";

/// What AUTH may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authentication {
    /// CONNECT named no method: nothing.
    Unnamed,
    /// Begin a re-authentication.
    Idle,
    /// One is going on.
    Running,
}

impl Session {
    pub(super) fn handle_auth(
        &mut self,
        reason: Reason,
        method: &str,
        data: Option<&Bytes>,
    ) -> Result<(), Violation> {
        if self.authentication == Authentication::Unnamed {
            return Err((Reason::ProtocolError, "CONNECT named no authentication method [MQTT-4.12.0-7]"));
        }
        if method != TOKEN_METHOD {
            return Err((Reason::ProtocolError, "the method is not that of CONNECT [MQTT-4.12.1-1]"));
        }
        if reason != Reason::ReAuthenticate {
            return Err((Reason::ProtocolError, "no authentication is going on that could continue"));
        }
        let token = data.and_then(|data| std::str::from_utf8(data).ok());
        let token = token.ok_or((Reason::NotAuthorized, "a token is needed as authentication data"))?;
        self.authentication = Authentication::Running;
        self.actions.push_back(Action::Authenticate(token.to_owned()));
        Ok(())
    }

    /// The token of [`Action::Authenticate`] was accepted, or refused `[MQTT-4.12.1-2]`.
    pub fn authenticated(&mut self, accepted: bool) {
        self.authentication = Authentication::Idle;
        if !accepted {
            self.close(Reason::NotAuthorized, "the token is not valid (any more), or another device's");
        } else if !self.closed {
            self.out.push_back(Out::Auth { reason: Reason::Success, method: TOKEN_METHOD.to_owned() });
        }
    }
}

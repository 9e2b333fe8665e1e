//! AUTH: another login for a connection that goes on (MQTT 5, section 4.12.1).

use super::Edge;
use crate::registry::HeldLogin;
use curlew_domain::{Result, account::Principal};
use std::sync::Arc;

/// Who the connection belongs to from now on; `None`: the token is refused, and the connection must end. The token must be
/// of the same user and device, since the session is.
pub async fn reauthenticate(
    edge: Arc<Edge>,
    held: HeldLogin,
    present: Principal,
    token: String,
) -> Result<Option<Principal>> {
    let accounts = &edge.services.accounts;
    let next = match accounts.authenticate_mqtt("", &token).await {
        Ok(next) => next,
        Err(curlew_domain::Error::Refused(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    if (next.user, next.device) != (present.user, present.device) {
        return Ok(None);
    }
    held.replace(next.login);
    // A logout that was answered before the line above found no connection to end.
    Ok(accounts.is_live(&next).await?.then_some(next))
}

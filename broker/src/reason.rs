//! MQTT's view of the error codes.

use crate::packet::Reason;
use curlew_domain::ErrorCode;

/// The reason code of a refused command.
pub const fn of_refusal(code: ErrorCode) -> Reason {
    match code {
        ErrorCode::InvalidRequest | ErrorCode::PayloadTooLarge | ErrorCode::UnsupportedMediaType => {
            Reason::PayloadFormatInvalid
        }
        ErrorCode::InvalidTopic | ErrorCode::MethodNotAllowed => Reason::TopicNameInvalid,
        ErrorCode::Unauthenticated
        | ErrorCode::InvalidCredentials
        | ErrorCode::RegistrationClosed
        | ErrorCode::Forbidden
        | ErrorCode::NotMember
        | ErrorCode::Blocked
        | ErrorCode::UserDeleted
        | ErrorCode::TooLate
        | ErrorCode::NotContact
        | ErrorCode::NotFound => Reason::NotAuthorized,
        ErrorCode::GroupFull | ErrorCode::DeviceLimit | ErrorCode::RetainedFull => Reason::QuotaExceeded,
        ErrorCode::UsernameTaken | ErrorCode::LocalIdConflict | ErrorCode::MessageDeleted => {
            Reason::UnspecifiedError
        }
        ErrorCode::TooManyRequests | ErrorCode::RequestTimeout | ErrorCode::Unavailable => Reason::ServerBusy,
        ErrorCode::Internal => Reason::ImplementationSpecificError,
    }
}

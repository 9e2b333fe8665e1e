//! Asking for something that may be outdated by the time it comes.

/// Where a question stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Asking {
    /// Nothing is to be asked.
    #[default]
    Idle,
    /// To be asked.
    Wanted,
    /// Asked.
    Asked,
    /// Asked, and something happened since: what comes may be too old.
    AskedTooEarly,
}

impl Asking {
    /// Something happened that the answer must know of.
    pub(super) fn want(&mut self) {
        *self = match self {
            Self::Idle | Self::Wanted => Self::Wanted,
            Self::Asked | Self::AskedTooEarly => Self::AskedTooEarly,
        };
    }

    /// Whether to ask now; then it counts as asked.
    pub(super) fn poll(&mut self) -> bool {
        let wanted = *self == Self::Wanted;
        if wanted {
            *self = Self::Asked;
        }
        wanted
    }

    /// The answer has come.
    pub(super) fn answered(&mut self) {
        *self = match self {
            Self::Idle | Self::Asked => Self::Idle,
            Self::Wanted | Self::AskedTooEarly => Self::Wanted,
        };
    }
}

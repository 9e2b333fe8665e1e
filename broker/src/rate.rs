//! How fast a user may publish. Nothing is refused: who is too fast is read later.

pub use curlew_domain::rate::{Lane, Rates, RatesByUser};

/// What a publication counts against, by its topic alone, also of one that will be refused: `users/{user}/x/…` and
/// `chats/{chat}/x/…` are plain.
pub fn lane_of(topic: &str) -> Lane {
    let mut levels = topic.splitn(4, '/');
    match (levels.next(), levels.next(), levels.next(), levels.next()) {
        (Some("users" | "chats"), Some(_), Some("x"), Some(_)) => Lane::Plain,
        _ => Lane::Commands,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topic_tells_the_lane() {
        for topic in ["users/1/x/a", "users/1/x/a/b", "chats/1/x/2/a", "users/1/x/"] {
            assert_eq!(lane_of(topic), Lane::Plain, "{topic}");
        }
        for topic in ["chats/1/send", "users/1/x", "users/1/presence", "x/1/x/a", "", "users/x/a/b"] {
            assert_eq!(lane_of(topic), Lane::Commands, "{topic}");
        }
    }
}

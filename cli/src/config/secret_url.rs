//! Showing a URL without its password.

/// `url` as it may be printed: the password is hidden, and whenever it is not certain which part that is, so is
/// everything after the scheme.
///
/// People paste passwords with `@`, `/`, `?` and `#` unescaped, so this must not trust the text to be a proper URL.
pub(super) fn show_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "[redacted]".to_owned();
    };
    if !scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') {
        return "[redacted]".to_owned();
    }
    let hidden = format!("{scheme}://[redacted]");
    let (place, query) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    // An `@` after the `?` means that the `?` may belong to a password.
    if query.is_some_and(|query| query.contains('@')) {
        return hidden;
    }
    // `?password=…` and whatever else may be secret.
    let query = query.map_or("", |_| "?[redacted]");
    match place.rsplit_once('@') {
        Some((who, place)) => match who.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:[redacted]@{place}{query}"),
            None => format!("{scheme}://{who}@{place}{query}"),
        },
        None if has_no_password(place) => format!("{scheme}://{place}{query}"),
        None => hidden,
    }
}

/// Whether `place`, a host with perhaps a port and a path, cannot be the beginning of `user:password`.
fn has_no_password(place: &str) -> bool {
    let authority = place.split('/').next().unwrap_or(place);
    let port = authority.strip_prefix('[').and_then(|v6| v6.split_once(']')).map_or_else(
        || authority.split_once(':').map_or("", |(_, port)| port),
        |(_, port)| port.trim_start_matches(':'),
    );
    port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::show_url;

    #[test]
    fn everything_but_the_password_is_shown() {
        assert_eq!(show_url("postgres://bob:pw@db:5432/curlew"), "postgres://bob:[redacted]@db:5432/curlew");
        assert_eq!(show_url("mysql://db/curlew"), "mysql://db/curlew");
        assert_eq!(show_url("postgres://bob@[::1]:5432/x"), "postgres://bob@[::1]:5432/x");
        assert_eq!(show_url("postgres://[::1]:5432/x"), "postgres://[::1]:5432/x");
    }

    #[test]
    fn no_placing_of_a_password_shows_it() {
        for url in [
            "postgres://u:hunter2@h/d",
            "postgres://u:hun@ter2@h/d",
            "postgres://u:hun/ter2@h/d",
            "postgres://u:hun?ter2@h/d",
            "postgres://u:hun#ter2@h/d",
            "postgres://u:a:hunter2@h/d",
            "postgres://h/d?password=hunter2",
            "postgres://h/d?password=x@hunter2",
            "postgres://u:hunter2",
            "u:hunter2@h/d",
            "hunter2",
            "hunter2 ://x",
        ] {
            let shown = show_url(url);
            assert!(!shown.contains("hun") && !shown.contains("ter2"), "{url} is shown as {shown}");
        }
    }
}

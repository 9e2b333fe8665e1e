//! The kinds of values: how a text becomes one, what is allowed, and how it may be shown.

use super::secret_url::show_url;
use curlew_api::CorsOrigins;
use curlew_domain::{receipt::DeliveredOn, secret::Secret};
use ipnet::IpNet;
use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

type Parse<T> = Box<dyn Fn(&str) -> Option<T>>;

/// How the texts of one setting are read and shown.
pub(super) struct Kind<T> {
    /// Continues "must be …".
    pub(super) allowed: Cow<'static, str>,
    parse: Parse<T>,
    show: fn(&str) -> String,
}

impl<T> Kind<T> {
    fn new(allowed: impl Into<Cow<'static, str>>, parse: impl Fn(&str) -> Option<T> + 'static) -> Self {
        Self { allowed: allowed.into(), parse: Box::new(parse), show: |text| format!("{text:?}") }
    }

    /// Shows values only as `show` puts them.
    fn shown_as(self, show: fn(&str) -> String) -> Self {
        Self { show, ..self }
    }

    pub(super) fn parse(&self, text: &str) -> Option<T> {
        (self.parse)(text)
    }

    pub(super) fn show(&self, text: &str) -> String {
        (self.show)(text)
    }
}

/// Where the truth is kept.
#[derive(Clone, Debug)]
pub enum Database {
    /// SQLite in the data directory.
    Embedded,
    /// PostgreSQL at this URL, which may hold a password.
    Postgres(Secret<String>),
}

/// A closed choice of words.
pub(super) trait Choice: Copy + 'static {
    /// Every word with its meaning.
    const WORDS: &'static [(&'static str, Self)];
}

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Everybody.
    Open,
    /// Those who were invited.
    Invite,
    /// Nobody; accounts are made with `curlew users create`.
    Closed,
}

impl Choice for Registration {
    const WORDS: &'static [(&'static str, Self)] =
        &[("open", Self::Open), ("invite", Self::Invite), ("closed", Self::Closed)];
}

impl Choice for DeliveredOn {
    const WORDS: &'static [(&'static str, Self)] = &[("ack", Self::Ack), ("open", Self::Open)];
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

impl Choice for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

pub(super) fn choice<T: Choice>() -> Kind<T> {
    let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
    Kind::new(words.join(" or "), |text| {
        T::WORDS.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
    })
}

pub(super) fn boolean() -> Kind<bool> {
    Kind::new("true or false", |text| text.parse().ok())
}

/// A name or an IP address (an IPv6 one without brackets), without a port.
pub(super) fn host() -> Kind<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    Kind::new("a host name or an IP address, without a port", move |text| {
        let good = text.parse::<IpAddr>().is_ok() || (!text.is_empty() && text.chars().all(legal));
        good.then(|| text.to_owned())
    })
}

pub(super) fn path() -> Kind<PathBuf> {
    Kind::new("a path", |text| (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text)))
}

/// Empty is `None`.
pub(super) fn optional<T: 'static>(kind: Kind<T>) -> Kind<Option<T>> {
    let Kind { allowed, parse, show } = kind;
    let parse = move |text: &str| if text.is_empty() { Some(None) } else { parse(text).map(Some) };
    Kind { allowed: format!("empty or {allowed}").into(), parse: Box::new(parse), show }
}

/// Addresses and networks between commas; none when empty.
pub(super) fn networks() -> Kind<Vec<IpNet>> {
    let network = |text: &str| {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
        // 10.1.2.3/8 means either much more or much less than it seems to.
        (network == network.trunc()).then_some(network)
    };
    Kind::new("IP addresses and networks between commas, such as 192.0.2.7, 10.0.0.0/8", move |text| {
        if text.is_empty() {
            Some(Vec::new())
        } else {
            text.split(',').map(|part| network(part.trim())).collect()
        }
    })
}

/// Origins of web pages between commas, or `*`; none when empty.
pub(super) fn origins() -> Kind<CorsOrigins> {
    let allowed = "* or origins between commas, as browsers send them: a scheme and a host, a port that is not the scheme's \
                   own, and no path, such as https://chat.example, http://localhost:3000";
    Kind::new(allowed, |text| match text {
        "" => Some(CorsOrigins::None),
        "*" => Some(CorsOrigins::Any),
        list => {
            let origins =
                list.split(',').map(|part| origin(&part.trim().to_ascii_lowercase())?.try_into().ok());
            origins.collect::<Option<_>>().map(CorsOrigins::Only)
        }
    })
}

/// <https://www.rfc-editor.org/rfc/rfc6454#section-6.2>. Compared byte by byte with what a browser sends, so that one which
/// no browser sends helps nobody. Apps have schemes of their own, such as `capacitor://localhost`.
fn origin(text: &str) -> Option<String> {
    let (scheme, authority) = text.split_once("://")?;
    let is_name = |text: &str, others: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
    };
    let (host, port) = match authority.rsplit_once(':') {
        // That colon is one of an IPv6 address.
        Some((_, port)) if port.ends_with(']') => (authority, None),
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let good_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(six) => six.parse::<Ipv6Addr>().is_ok_and(|address| address.to_string() == six),
        None => is_name(host, ".-_"),
    };
    let own_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => 0,
    };
    let good_port = port.is_none_or(|port| {
        port.parse::<u16>().is_ok_and(|number| number != own_port && number.to_string() == port)
    });
    (is_name(scheme, "+-.") && good_host && good_port).then(|| text.to_owned())
}

pub(super) fn address() -> Kind<SocketAddr> {
    Kind::new("an IP address and a port, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080", |text| {
        text.parse().ok()
    })
}

pub(super) fn whole<T>(range: RangeInclusive<T>) -> Kind<T>
where
    T: FromStr + PartialOrd + fmt::Display + 'static,
{
    Kind::new(format!("a whole number from {} to {}", range.start(), range.end()), move |text| {
        // `+5` would parse, and is not what TOML's integers print as.
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|number| digits && range.contains(number))
    })
}

/// `range` in milliseconds.
pub(super) fn duration(range: RangeInclusive<u64>, allowed: &'static str) -> Kind<Duration> {
    Kind::new(allowed, move |text| {
        parse_milliseconds(text).filter(|ms| range.contains(ms)).map(Duration::from_millis)
    })
}

/// `range` in milliseconds, or 0.
pub(super) fn duration_or_zero(range: RangeInclusive<u64>, allowed: &'static str) -> Kind<Duration> {
    Kind::new(allowed, move |text| {
        parse_milliseconds(text).filter(|ms| *ms == 0 || range.contains(ms)).map(Duration::from_millis)
    })
}

/// `15m`, `1h`, `7d`, `90s`, `500ms`; a bare number counts seconds.
fn parse_milliseconds(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match &text[unit_at..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    text[..unit_at].parse::<u64>().ok()?.checked_mul(unit)
}

/// At least `min` bytes; empty is `None`. Its values are never shown.
pub(super) fn secret(min: usize) -> Kind<Option<Secret<String>>> {
    Kind::new(format!("at least {min} bytes long"), move |text| match text.len() {
        0 => Some(None),
        length => (length >= min).then(|| Some(Secret::new(text.to_owned()))),
    })
    .shown_as(|_| "[redacted]".to_owned())
}

pub(super) fn database() -> Kind<Database> {
    let allowed = "empty for the embedded SQLite in the data directory, or \
                   postgres://USER:PASSWORD@HOST:PORT/DATABASE (sqlite: URLs are not supported)";
    Kind::new(allowed, |text| match text.split_once("://") {
        None if text.is_empty() => Some(Database::Embedded),
        Some(("postgres" | "postgresql", rest)) if !rest.is_empty() => {
            Some(Database::Postgres(Secret::new(text.to_owned())))
        }
        _ => None,
    })
    .shown_as(show_url)
}

/// A filter in the syntax of `RUST_LOG`. A lone word must be a level: read as a module name, a misspelt level would
/// silence everything else.
pub(super) fn log_filter() -> Kind<String> {
    let allowed = "error, warn, info, debug, trace or off, or a list such as info,curlew_broker=debug";
    Kind::new(allowed, |text| {
        let is_directive = |part: &str| part.contains(['=', '[']) || part.parse::<LevelFilter>().is_ok();
        let parts = text.split(',').all(|part| !part.is_empty() && is_directive(part.trim()));
        (parts && EnvFilter::builder().parse(text).is_ok()).then(|| text.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_a_bare_number_counts_seconds() {
        for (text, seconds) in
            [("15m", 900), ("3600", 3600), ("1h", 3600), ("7d", 604_800), ("5s", 5), ("0", 0)]
        {
            assert_eq!(parse_milliseconds(text), Some(seconds * 1000), "{text}");
        }
        assert_eq!(parse_milliseconds("500ms"), Some(500));
        for text in ["", "m", "1w", "-1", "1.5h", "1 h", "1h30m", "99999999999999999d", "１h"] {
            assert_eq!(parse_milliseconds(text), None, "{text}");
        }
    }

    #[test]
    fn a_duration_keeps_to_its_range_or_is_zero() {
        let kind = duration_or_zero(1_000..=60_000, "");
        assert_eq!(kind.parse("0"), Some(Duration::ZERO));
        assert_eq!(kind.parse("1s"), Some(Duration::from_secs(1)));
        for text in ["999ms", "61s", ""] {
            assert_eq!(kind.parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_number_keeps_to_its_range() {
        let cost = whole(4..=16_u32);
        assert_eq!(cost.parse("4"), Some(4));
        assert_eq!(cost.parse("16"), Some(16));
        for text in ["3", "17", "", "+5", "-5", "5.0", "0x5", "99999999999999"] {
            assert_eq!(cost.parse(text), None, "{text}");
        }
        assert_eq!(cost.allowed, "a whole number from 4 to 16");
    }

    #[test]
    fn origins_are_as_browsers_send_them() {
        assert_eq!(origins().parse(""), Some(CorsOrigins::None));
        assert_eq!(origins().parse("*"), Some(CorsOrigins::Any));
        let listed = "https://Chat.example, http://[::1]:3000,http://[2001:db8::1],capacitor://localhost";
        let Some(CorsOrigins::Only(some)) = origins().parse(listed) else { panic!("four origins") };
        assert_eq!(
            some,
            ["https://chat.example", "http://[::1]:3000", "http://[2001:db8::1]", "capacitor://localhost"]
        );
        for bad in [
            "chat.example",
            "null",
            "https://",
            "https://x/",
            "https://x/app",
            "https://x:443",
            "http://x:080",
            "http://x:",
            "https://u@x",
            "https://*.x",
            "http://[::1",
            "http://[0::1]",
            "https://x,",
            "*,https://x",
            "https://a b",
        ] {
            assert_eq!(origins().parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn networks_are_addresses_and_prefixes() {
        assert_eq!(networks().parse(""), Some(Vec::new()));
        let parsed = networks().parse("192.0.2.7, 10.0.0.0/8,2001:db8::/32").unwrap();
        let shown: Vec<_> = parsed.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.7/32", "10.0.0.0/8", "2001:db8::/32"]);
        for text in [
            ",",
            "10.0.0.0/8,",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "proxy.example",
            "192.0.2.7:80",
            "10.0.0.0-10.0.0.9",
        ] {
            assert!(networks().parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_optional_may_be_empty_and_nothing_else() {
        assert_eq!(optional(whole(1..=9_u8)).parse(""), Some(None));
        assert_eq!(optional(whole(1..=9_u8)).parse("7"), Some(Some(7)));
        assert_eq!(optional(whole(1..=9_u8)).parse("x"), None);
    }

    #[test]
    fn a_database_is_embedded_or_postgres() {
        assert!(matches!(database().parse(""), Some(Database::Embedded)));
        for url in ["postgres://u:p@h/d", "postgresql://h/d"] {
            assert!(matches!(database().parse(url), Some(Database::Postgres(_))), "{url}");
        }
        for url in ["sqlite:x.db", "sqlite://x.db", "mysql://h/d", "postgres:", "postgres://", "x"] {
            assert!(database().parse(url).is_none(), "{url}");
        }
    }

    #[test]
    fn a_log_filter_does_not_mistake_a_typing_error_for_a_module() {
        for text in ["info", "WARN", "off", "info,curlew_broker=debug", "warn,curlew_store[commit]=trace"] {
            assert!(log_filter().parse(text).is_some(), "{text}");
        }
        for text in ["", "inof", "info,", "info,curlew=loud"] {
            assert!(log_filter().parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_secret_is_long_and_never_shown() {
        let kind = secret(32);
        assert!(matches!(kind.parse(""), Some(None)));
        assert!(matches!(kind.parse(&"x".repeat(32)), Some(Some(_))));
        assert!(kind.parse(&"x".repeat(31)).is_none());
        assert_eq!(kind.show("hunter2"), "[redacted]");
        assert!(!format!("{:?}", kind.parse(&"x".repeat(32))).contains("xxx"));
    }
}

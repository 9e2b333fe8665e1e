//! Where a request really comes from, when an HTTP proxy of ours has passed it on: `X-Forwarded-For`, and `Forwarded` of
//! RFC 7239.

use axum::http::{HeaderMap, HeaderName, header::FORWARDED};
use curlew_broker::listener::proxy::Trusted;
use std::net::{IpAddr, SocketAddr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address that a request from the connection `peer` comes from.
///
/// From a trusted peer it is the rightmost address, nearest to us, that is not itself trusted: what is left of it is
/// hearsay. If all are trusted, the leftmost; if one is no address, the one right of it. From others the fields mean
/// nothing. When both fields are there and differ, the client may have made up one of them, and `peer` it is.
pub fn client_address(peer: SocketAddr, headers: &HeaderMap, trusted: &Trusted) -> SocketAddr {
    if !trusted.contains(peer.ip()) {
        return peer;
    }
    let nearest = |hops: Vec<Option<SocketAddr>>| {
        let mut client = peer;
        for hop in hops.into_iter().rev() {
            let Some(hop) = hop else { break };
            client = hop;
            if !trusted.contains(hop.ip()) {
                break;
            }
        }
        client
    };
    let told = |name: &HeaderName, read: fn(&str) -> Vec<Option<SocketAddr>>| {
        let lines = headers.get_all(name).into_iter();
        // What is no text is no address.
        lines.flat_map(|line| line.to_str().map_or_else(|_| vec![None], read)).collect::<Vec<_>>()
    };
    let by_custom = told(&X_FORWARDED_FOR, read_x_forwarded_for);
    let by_standard = told(&FORWARDED, read_forwarded);
    match (by_custom.is_empty(), by_standard.is_empty()) {
        (_, true) => nearest(by_custom),
        (true, false) => nearest(by_standard),
        (false, false) => {
            let (one, other) = (nearest(by_custom), nearest(by_standard));
            if one.ip() == other.ip() { one } else { peer }
        }
    }
}

/// `192.0.2.7, 2001:db8::1`; some proxies write ports, and brackets.
fn read_x_forwarded_for(line: &str) -> Vec<Option<SocketAddr>> {
    line.split(',').map(|node| read_node(node.trim())).collect()
}

/// `for=192.0.2.7;proto=https, for="[2001:db8::1]:4711"`: of each element the node that it came from.
fn read_forwarded(line: &str) -> Vec<Option<SocketAddr>> {
    split_unquoted(line, ',')
        .map(|element| {
            let node = split_unquoted(element, ';').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
            })?;
            // No address needs an escape within quotes.
            read_node(node.strip_prefix('"').map_or(Some(node), |node| node.strip_suffix('"'))?)
        })
        .collect()
}

/// Splits at `separator` outside of quoted strings.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c => return c == separator && !quoted,
        }
        false
    })
}

/// An address with or without brackets and port; not `unknown` or a made-up name (RFC 7239, section 6).
fn read_node(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = match bare.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, 0),
        Err(_) => text.parse().ok()?,
    };
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const PROXY: &str = "10.0.0.1:5000";

    #[track_caller]
    fn from(peer: &str, fields: &[(&'static str, &str)]) -> String {
        let trusted = Trusted::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            headers.append(name, value);
        }
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn from_others_the_fields_mean_nothing() {
        let fields = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")];
        assert_eq!(from("192.0.2.1:7", &fields), "192.0.2.1:7");
        assert_eq!(from("[::1]:7", &fields), "[::1]:7");
        assert_eq!(from(PROXY, &[]), PROXY);
    }

    #[test]
    fn the_rightmost_address_that_is_not_trusted_counts() {
        for (line, address) in [
            ("203.0.113.9", "203.0.113.9:0"),
            ("127.0.0.1, 203.0.113.9", "203.0.113.9:0"),
            ("198.51.100.1,203.0.113.9 , 10.7.7.7", "203.0.113.9:0"),
            ("203.0.113.9:4711", "203.0.113.9:4711"),
            ("2001:db8::7", "[2001:db8::7]:0"),
            ("[2001:db8::7]", "[2001:db8::7]:0"),
            ("[2001:db8::7]:4711", "[2001:db8::7]:4711"),
            ("::ffff:203.0.113.9", "203.0.113.9:0"),
            ("203.0.113.9, fd00::1", "203.0.113.9:0"),
            // All are trusted.
            ("10.9.9.9, 10.7.7.7", "10.9.9.9:0"),
            // What cannot be read, and what is left of it, is not believed.
            ("203.0.113.9, unknown", PROXY),
            ("203.0.113.9, , 10.7.7.7", "10.7.7.7:0"),
            ("", PROXY),
            ("203.0.113.9, 300.1.1.1", PROXY),
            ("203.0.113.9, \u{e9}", PROXY),
        ] {
            assert_eq!(from(PROXY, &[("x-forwarded-for", line)]), address, "{line}");
        }
        let lines = [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(from(PROXY, &lines), "203.0.113.9:0");
    }

    #[test]
    fn the_standard_s_field_says_the_same() {
        for (line, address) in [
            ("for=203.0.113.9", "203.0.113.9:0"),
            ("For=\"203.0.113.9:4711\"; proto=https;by=10.0.0.1", "203.0.113.9:4711"),
            ("for=198.51.100.1, proto=https;for=\"[2001:db8::7]:99\"", "[2001:db8::7]:99"),
            ("for=203.0.113.9;host=\"a,for=1.1.1.1;\\\",for=2.2.2.2\", for=10.7.7.7", "203.0.113.9:0"),
            ("for=203.0.113.9, for=_hidden", PROXY),
            ("for=203.0.113.9, for=unknown", PROXY),
            ("for=203.0.113.9, proto=https", PROXY),
            ("for=203.0.113.9, for=\"10.7.7.7", PROXY),
        ] {
            assert_eq!(from(PROXY, &[("forwarded", line)]), address, "{line}");
        }
    }

    #[test]
    fn fields_that_differ_are_not_believed() {
        let both = |one, other| from(PROXY, &[("x-forwarded-for", one), ("forwarded", other)]);
        assert_eq!(both("203.0.113.9", "for=\"203.0.113.9:7\""), "203.0.113.9:0");
        assert_eq!(both("203.0.113.9", "for=198.51.100.1"), PROXY);
    }
}

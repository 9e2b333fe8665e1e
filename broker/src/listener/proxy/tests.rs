//! The layout, byte by byte.

use super::*;
use proptest::prelude::*;
use std::io::ErrorKind;
use tokio::runtime::Builder;

fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, rest].concat()
}

const FOUR: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xC3, 0x50, 0x07, 0x5B];

/// What the header says, and what is left after it.
fn read(bytes: &[u8]) -> (Result<Option<SocketAddr>, HeaderError>, &[u8]) {
    let mut left = bytes;
    let runtime = Builder::new_current_thread().build().unwrap();
    let outcome = runtime.block_on(read_header(&mut left));
    (outcome, left)
}

fn source(bytes: &[u8]) -> Option<SocketAddr> {
    read(bytes).0.unwrap()
}

#[test]
fn tells_the_source_and_leaves_what_follows() {
    let bytes = [header(PROXY, TCP_OVER_IPV4, &FOUR), b"\x10\x0c\0\x04MQTT".to_vec()].concat();
    let (outcome, left) = read(&bytes);
    assert_eq!(outcome.unwrap(), Some("192.0.2.7:50000".parse().unwrap()));
    assert_eq!(left, b"\x10\x0c\0\x04MQTT");

    let mut six = [0; 36];
    six[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    six[15] = 1;
    six[32..34].copy_from_slice(&443u16.to_be_bytes());
    assert_eq!(source(&header(PROXY, TCP_OVER_IPV6, &six)), Some("[2001:db8::1]:443".parse().unwrap()));
}

#[test]
fn an_ipv4_address_written_as_ipv6_is_told_as_ipv4() {
    let mut six = [0; 36];
    six[10..16].copy_from_slice(&[0xFF, 0xFF, 192, 0, 2, 7]);
    assert_eq!(source(&header(PROXY, TCP_OVER_IPV6, &six)), Some("192.0.2.7:0".parse().unwrap()));
}

#[test]
fn extensions_are_stepped_over() {
    let extensions = [4, 0, 3, 0, 0, 0, 0x20, 0, 0];
    let bytes = header(PROXY, TCP_OVER_IPV4, &[&FOUR[..], &extensions].concat());
    let (outcome, left) = read(&bytes);
    assert_eq!(outcome.unwrap(), Some("192.0.2.7:50000".parse().unwrap()));
    assert!(left.is_empty());
}

#[test]
fn a_connection_of_the_proxy_itself_keeps_its_address() {
    assert_eq!(source(&header(LOCAL, UNSPECIFIED, &[])), None);
    // "The receiver must discard the protocol block including the family."
    assert_eq!(source(&header(LOCAL, 0xFF, &[1, 2, 3])), None);
    assert_eq!(source(&header(PROXY, UNSPECIFIED, &[9; 5])), None);
}

#[test]
fn every_truncation_is_an_end_of_the_connection() {
    let whole = header(PROXY, TCP_OVER_IPV4, &FOUR);
    for length in 0..whole.len() {
        match read(&whole[..length]).0 {
            Err(HeaderError::Io(error)) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{length}"),
            other => panic!("{length}: {other:?}"),
        }
    }
}

#[test]
fn anything_else_is_refused() {
    let version_1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 1883\r\n";
    assert!(matches!(read(version_1).0, Err(HeaderError::Signature)));
    let mqtt = b"\x10\x1a\0\x04MQTT\x05\x02\0\0\0\0\x0dsomebody-else";
    assert!(matches!(read(mqtt).0, Err(HeaderError::Signature)));
    for at in 0..SIGNATURE.len() {
        let mut broken = header(PROXY, TCP_OVER_IPV4, &FOUR);
        broken[at] ^= 1;
        assert!(matches!(read(&broken).0, Err(HeaderError::Signature)), "byte {at}");
    }
    for command in (0..=0xFF).filter(|command| ![LOCAL, PROXY].contains(command)) {
        let outcome = read(&header(command, TCP_OVER_IPV4, &FOUR)).0;
        assert!(matches!(outcome, Err(HeaderError::Command(told)) if told == command), "{command:#x}");
    }
    for family in (0..=0xFF).filter(|family| ![UNSPECIFIED, TCP_OVER_IPV4, TCP_OVER_IPV6].contains(family)) {
        let outcome = read(&header(PROXY, family, &[0; 216])).0;
        assert!(matches!(outcome, Err(HeaderError::Family(told)) if told == family), "{family:#x}");
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let refused =
        |family, rest: &[u8]| matches!(read(&header(PROXY, family, rest)).0, Err(HeaderError::Length(_)));
    for length in 0..12 {
        assert!(refused(TCP_OVER_IPV4, &FOUR[..length]), "{length}");
    }
    for length in 0..36 {
        assert!(refused(TCP_OVER_IPV6, &[0; 36][..length]), "{length}");
    }
    for extensions in [&[4][..], &[4, 0], &[4, 0, 1], &[4, 0xFF, 0xFF, 0], &[4, 0, 0, 4, 0, 2, 1]] {
        assert!(refused(TCP_OVER_IPV4, &[&FOUR[..], extensions].concat()), "{extensions:?}");
    }
    assert!(refused(TCP_OVER_IPV4, &[0; MAX_REST + 1]));
    // Before it is waited for.
    let claims = [&SIGNATURE[..], &[PROXY, TCP_OVER_IPV4, 0xFF, 0xFF]].concat();
    assert!(matches!(read(&claims).0, Err(HeaderError::Length(0xFFFF))));
}

#[test]
fn trust_is_by_network() {
    let trusted = Trusted::new(vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::1/128".parse().unwrap()]);
    for address in ["192.0.2.0", "192.0.2.255", "::ffff:192.0.2.9", "2001:db8::1"] {
        assert!(trusted.contains(address.parse().unwrap()), "{address}");
    }
    for address in ["192.0.3.0", "2001:db8::2", "127.0.0.1"] {
        assert!(!trusted.contains(address.parse().unwrap()), "{address}");
        assert!(!Trusted::default().contains(address.parse().unwrap()), "{address}");
    }
}

proptest! {
    #[test]
    fn no_input_is_read_beyond_its_header(command in LOCAL..=PROXY, family: u8, rest in prop::collection::vec(any::<u8>(), 0..80), after in prop::collection::vec(any::<u8>(), 0..40)) {
        let bytes = [header(command, family, &rest), after.clone()].concat();
        let (outcome, left) = read(&bytes);
        prop_assert!(outcome.is_err() || left == after);
    }

    #[test]
    fn no_input_is_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = read(&bytes);
    }
}

//! Both formats carry the same values, and what is not one map of such values is refused without harm.

use super::*;
use curlew_domain::{
    clock::Timestamp,
    event::EventBody,
    ids::{ChatId, RowId, Seq, UserId},
    message::LocalId,
    receipt::Status,
    services::messaging::SendRequest,
};
use minicbor::Encoder;
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a0001";

/// What an error tells a client.
#[track_caller]
fn refusal<T>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Refused(refusal)) => {
            assert_eq!(refusal.code, ErrorCode::InvalidRequest);
            refusal.detail.into_owned()
        }
        Err(other) => panic!("not a refusal: {other}"),
        Ok(_) => panic!("it was taken"),
    }
}

fn send(payload: &[u8]) -> Result<SendRequest, Error> {
    Format::Cbor.decode(payload)
}

/// Any object at all.
fn object(payload: &[u8]) -> Result<Value, Error> {
    Format::Cbor.decode(payload)
}

/// CBOR written by hand.
fn written(
    write: impl FnOnce(&mut Encoder<Vec<u8>>) -> Result<(), minicbor::encode::Error<std::convert::Infallible>>,
) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder).unwrap();
    encoder.into_writer()
}

/// `{"k": …}`
fn of_one(value: &[u8]) -> Vec<u8> {
    [&[0xA1, 0x61, b'k'], value].concat()
}

#[test]
fn a_format_has_a_name_and_json_is_what_is_not_named() {
    assert_eq!(Format::named("json"), Some(Format::Json));
    assert_eq!(Format::named("cbor"), Some(Format::Cbor));
    for name in ["", "CBOR", "cbor ", "xml"] {
        assert_eq!(Format::named(name), None, "{name}");
    }
    assert_eq!(Format::default(), Format::Json);
}

#[test]
fn an_event_is_the_same_in_both() {
    let (user, chat): (UserId, ChatId) = (ID.parse().unwrap(), ID.parse().unwrap());
    let bodies = [
        EventBody::ReadElsewhere { read_seq: Seq::from(u32::MAX) + 7, unread_count: 999 },
        EventBody::MessageStatus { message_seq: 24, status: Status::Delivered },
        EventBody::MessageReaction {
            message_id: ID.parse::<RowId>().unwrap(),
            message_seq: 1,
            user_id: user,
            emoji: None,
        },
        EventBody::CommandFailed {
            topic: "chats/ж/send".into(),
            local_id: Some(LocalId::parse("mine").unwrap()),
            packet_id: None,
            code: ErrorCode::NotMember,
            detail: "\u{0}\"🙂".into(),
        },
        EventBody::ContactRequestsViewed,
    ];
    for body in bodies {
        let event = Event::live(Uuid::max(), Timestamp(1_700_000_000_000), Some(chat), body);
        let (text, binary) = (Format::Json.encode(&event), Format::Cbor.encode(&event));
        let value: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(object(&binary).unwrap(), value);
        assert_eq!(Format::Cbor.encode_value(&value), binary);
        assert!(value["id"].is_string() && value["at"].is_string(), "{value}");
        assert!(binary.len() < text.len(), "{} of {}", binary.len(), text.len());
    }
}

#[test]
fn a_command_is_the_same_in_both() {
    let body = json!({ "type": "TEXT", "text": "hé", "localId": "a", "mentions": [ID], "replyToId": null });
    let text = Format::Json.decode::<SendRequest>(body.to_string().as_bytes()).unwrap();
    let binary = send(&Format::Cbor.encode_value(&body)).unwrap();
    assert_eq!(format!("{binary:?}"), format!("{text:?}"));
}

#[test]
fn what_is_wrong_is_said_in_the_same_words() {
    for body in [
        json!({}),
        json!({ "type": "TEXT", "more": 1 }),
        json!({ "type": "TEXT", "text": 7 }),
        json!({ "type": "TEXT", "text": -7 }),
        json!({ "type": "TEXT", "text": { "a": [] } }),
        json!({ "type": "CARRIER-PIGEON" }),
        json!({ "type": "TEXT", "mentions": ["a", true] }),
        json!({ "type": "TEXT", "mentions": "x".repeat(1000) }),
    ] {
        let text = refusal(Format::Json.decode::<SendRequest>(body.to_string().as_bytes()));
        let binary = refusal(send(&Format::Cbor.encode_value(&body)));
        assert_eq!(binary, text, "{body}");
        assert!(binary.len() <= ECHO_LIMIT);
    }
}

#[test]
fn a_key_that_comes_twice_is_refused() {
    let body = written(|cbor| {
        cbor.map(3)?.str("type")?.str("TEXT")?.str("text")?.str("a")?.str("text")?.str("b")?.ok()
    });
    let twice = refusal(send(&body));
    assert_eq!(
        twice,
        refusal(Format::Json.decode::<SendRequest>(br#"{"type":"TEXT","text":"a","text":"b"}"#))
    );
    assert!(twice.contains("duplicate field `text`"), "{twice}");
    let below = written(|cbor| cbor.map(1)?.str("k")?.map(2)?.str("a")?.null()?.str("a")?.null()?.ok());
    assert_eq!(refusal(object(&below)), "duplicate field `a`");
}

#[test]
fn what_is_not_one_map_is_refused() {
    for payload in
        [&b""[..], b"\x80", b"\xf6", b"\x00", b"\x61a", b"{}", b" \xa0", b"\xc1\xa0", b"\xff", b"\x5f"]
    {
        assert_eq!(refusal(object(payload)), "the payload is not a CBOR map", "{payload:x?}");
    }
    assert_eq!(refusal(object(b"\xa0\xa0")), "something follows the CBOR map");
    assert_eq!(refusal(object(b"\xa0\x00")), "something follows the CBOR map");
    assert_eq!(refusal(object(b"\xbf\xff\xff")), "something follows the CBOR map");
}

#[test]
fn what_json_does_not_have_is_refused() {
    for (value, what) in [
        (&b"\x41a"[..], "a byte string"),
        (b"\x5f\x41a\xff", "a byte string"),
        // A date, a bignum, "this is CBOR".
        (b"\xc1\x00", "a tag"),
        (b"\xc2\x41\x01", "a tag"),
        (b"\xd9\xd9\xf7\x00", "a tag"),
        (b"\xf9\x00\x00", "a floating point number"),
        (b"\xfa\x00\x00\x00\x00", "a floating point number"),
        (b"\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00", "a floating point number"),
        (b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff", "an integer beyond 64 bits"),
        (b"\xf7", "a simple value"),
        (b"\xe0", "a simple value"),
        (b"\xf8\xff", "a simple value"),
    ] {
        let expected = format!("the CBOR holds {what}, which is not taken");
        assert_eq!(refusal(object(&of_one(value))), expected, "{value:x?}");
        assert_eq!(refusal(object(&of_one(&[b"\x81", value].concat()))), expected, "{value:x?} in an array");
    }
    for key in [&b"\x01"[..], b"\x20", b"\x41k", b"\xf6", b"\xc1\x61k", b"\xa0"] {
        let payload = [b"\xa1", key, b"\x00"].concat();
        assert_eq!(
            refusal(object(&payload)),
            "the CBOR holds a key that is not text, which is not taken",
            "{key:x?}"
        );
    }
}

#[test]
fn integers_come_through_to_their_ends() {
    for (value, expected) in [
        (&b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff"[..], json!(u64::MAX)),
        (b"\x3b\x7f\xff\xff\xff\xff\xff\xff\xff", json!(i64::MIN)),
        (b"\x38\xff", json!(-256)),
        // Longer than needed.
        (b"\x1b\x00\x00\x00\x00\x00\x00\x00\x07", json!(7)),
    ] {
        assert_eq!(object(&of_one(value)).unwrap()["k"], expected);
    }
}

#[test]
fn indefinite_lengths_are_taken_when_they_are_well_formed() {
    let body = b"\xbf\x64type\x7f\x62TE\x60\x62XT\xff\x68mentions\x9f\x61a\xff\xff";
    let request = send(body).unwrap();
    assert_eq!(request.mentions, Some(vec!["a".to_owned()]));
    for payload in [
        &b"\xbf"[..],
        b"\xbf\x61a",
        // A key without a value.
        b"\xbf\x61a\xff",
        b"\xbf\x61a\x00",
        b"\xa1\x61a\xff",
        b"\xa1\x61a\x9f",
        b"\xa1\x61a\x9f\x00",
        // A break in a definite array.
        b"\xa1\x61a\x81\xff",
        // Strings in pieces: of another kind, in pieces themselves, without an end, cut within a character.
        b"\xa1\x61a\x7f\x41b\xff",
        b"\xa1\x61a\x7f\x7f\x61b\xff\xff",
        b"\xa1\x61a\x7f\x61b",
        b"\xa1\x61a\x7f\x61\xc3\x61\xa9\xff",
    ] {
        assert_eq!(refusal(object(payload)), "the CBOR is not well-formed", "{payload:x?}");
    }
}

#[test]
fn what_is_broken_or_lies_about_its_length_is_refused() {
    for value in [
        &b""[..],
        b"\x1c",
        b"\x3f",
        b"\x5c",
        b"\x7c",
        b"\xfc",
        b"\x19\x00",
        b"\x62a",
        b"\x61\xff",
        b"\x7b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x7a\x7f\xff\xff\xffabc",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x9b\x00\x00\x00\xff\xff\xff\xff\xff\x00\x00",
        b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xba\xff\xff\xff\xff\x61a\x00",
    ] {
        assert_eq!(refusal(object(&of_one(value))), "the CBOR is not well-formed", "{value:x?}");
    }
    assert_eq!(refusal(object(b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff")), "the CBOR is not well-formed");
}

#[test]
fn depth_and_number_have_an_end() {
    let nested = |depth: usize| of_one(&[b"\x81".repeat(depth), b"\x00".to_vec()].concat());
    assert!(object(&nested(15)).is_ok());
    for depth in [16, 200_000] {
        assert_eq!(refusal(object(&nested(depth))), "the CBOR is nested more than 16 deep");
    }
    assert_eq!(refusal(object(&of_one(&b"\x9f".repeat(200_000)))), "the CBOR is nested more than 16 deep");
    assert_eq!(refusal(object(&b"\xa1\x61a".repeat(100_000))), "the CBOR is nested more than 16 deep");

    let many = |count: usize| of_one(&[&b"\x9f"[..], &b"\xf6".repeat(count), b"\xff"].concat());
    assert!(object(&many(1023)).is_ok());
    for count in [1024, 200_000] {
        assert_eq!(refusal(object(&many(count))), "the CBOR holds more than 1024 values");
    }
    let fields = [&b"\xbf"[..], &b"\x60\x00".repeat(100_000), b"\xff"].concat();
    assert_eq!(refusal(object(&fields)), "the CBOR holds more than 1024 values");
}

/// Values that a body of ours could hold.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..8).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn every_value_comes_back(value in value()) {
        let whole = json!({ "k": value });
        prop_assert_eq!(object(&Format::Cbor.encode_value(&whole)).unwrap(), whole);
    }

    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = object(&bytes);
        let _ = object(&[&b"\xbf\x61k"[..], &bytes].concat());
    }

    #[test]
    fn a_body_that_was_cut_is_refused(value in value(), cut in any::<prop::sample::Index>()) {
        let whole = Format::Cbor.encode_value(&json!({ "k": value }));
        prop_assert!(object(&whole[..cut.index(whole.len())]).is_err());
    }
}

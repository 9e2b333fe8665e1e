//! MQTT packets in a form that is the same for 3.1.1 and 5: what [`crate::wire`] makes of bytes,
//! and what the session machine works with. Everything here has been validated: a value of these
//! types never breaks a rule of the standard that one packet alone can break.

use bytes::Bytes;
pub use curlew_domain::plain::Qos;

/// Packet identifier; never 0 `[MQTT-2.2.1-3]`.
pub type PacketId = std::num::NonZeroU16;

/// Protocol version, told by CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1.1 (protocol level 4).
    V3,
    /// MQTT 5.0 (protocol level 5).
    V5,
}

/// A reason code of MQTT 5. In 3.1.1 most of them have no form on the wire; [`crate::wire`] maps those that have.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// 0x00
    Success = 0x00,
    /// 0x01, SUBACK only
    GrantedQos1 = 0x01,
    /// 0x02, SUBACK only
    GrantedQos2 = 0x02,
    /// 0x04
    DisconnectWithWill = 0x04,
    /// 0x10
    NoMatchingSubscribers = 0x10,
    /// 0x11
    NoSubscriptionExisted = 0x11,
    /// 0x18
    ContinueAuthentication = 0x18,
    /// 0x19
    ReAuthenticate = 0x19,
    /// 0x80
    UnspecifiedError = 0x80,
    /// 0x81
    MalformedPacket = 0x81,
    /// 0x82
    ProtocolError = 0x82,
    /// 0x83
    ImplementationSpecificError = 0x83,
    /// 0x84
    UnsupportedProtocolVersion = 0x84,
    /// 0x85
    ClientIdentifierNotValid = 0x85,
    /// 0x86
    BadUserNameOrPassword = 0x86,
    /// 0x87
    NotAuthorized = 0x87,
    /// 0x88
    ServerUnavailable = 0x88,
    /// 0x89
    ServerBusy = 0x89,
    /// 0x8A
    Banned = 0x8A,
    /// 0x8B
    ServerShuttingDown = 0x8B,
    /// 0x8C
    BadAuthenticationMethod = 0x8C,
    /// 0x8D
    KeepAliveTimeout = 0x8D,
    /// 0x8E
    SessionTakenOver = 0x8E,
    /// 0x8F
    TopicFilterInvalid = 0x8F,
    /// 0x90
    TopicNameInvalid = 0x90,
    /// 0x91
    PacketIdentifierInUse = 0x91,
    /// 0x92
    PacketIdentifierNotFound = 0x92,
    /// 0x93
    ReceiveMaximumExceeded = 0x93,
    /// 0x94
    TopicAliasInvalid = 0x94,
    /// 0x95
    PacketTooLarge = 0x95,
    /// 0x96
    MessageRateTooHigh = 0x96,
    /// 0x97
    QuotaExceeded = 0x97,
    /// 0x98
    AdministrativeAction = 0x98,
    /// 0x99
    PayloadFormatInvalid = 0x99,
    /// 0x9A
    RetainNotSupported = 0x9A,
    /// 0x9B
    QosNotSupported = 0x9B,
    /// 0x9C
    UseAnotherServer = 0x9C,
    /// 0x9D
    ServerMoved = 0x9D,
    /// 0x9E
    SharedSubscriptionsNotSupported = 0x9E,
    /// 0x9F
    ConnectionRateExceeded = 0x9F,
    /// 0xA0
    MaximumConnectTime = 0xA0,
    /// 0xA1
    SubscriptionIdentifiersNotSupported = 0xA1,
    /// 0xA2
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl Reason {
    const ALL: [Self; 43] = [
        Self::Success,
        Self::GrantedQos1,
        Self::GrantedQos2,
        Self::DisconnectWithWill,
        Self::NoMatchingSubscribers,
        Self::NoSubscriptionExisted,
        Self::ContinueAuthentication,
        Self::ReAuthenticate,
        Self::UnspecifiedError,
        Self::MalformedPacket,
        Self::ProtocolError,
        Self::ImplementationSpecificError,
        Self::UnsupportedProtocolVersion,
        Self::ClientIdentifierNotValid,
        Self::BadUserNameOrPassword,
        Self::NotAuthorized,
        Self::ServerUnavailable,
        Self::ServerBusy,
        Self::Banned,
        Self::ServerShuttingDown,
        Self::BadAuthenticationMethod,
        Self::KeepAliveTimeout,
        Self::SessionTakenOver,
        Self::TopicFilterInvalid,
        Self::TopicNameInvalid,
        Self::PacketIdentifierInUse,
        Self::PacketIdentifierNotFound,
        Self::ReceiveMaximumExceeded,
        Self::TopicAliasInvalid,
        Self::PacketTooLarge,
        Self::MessageRateTooHigh,
        Self::QuotaExceeded,
        Self::AdministrativeAction,
        Self::PayloadFormatInvalid,
        Self::RetainNotSupported,
        Self::QosNotSupported,
        Self::UseAnotherServer,
        Self::ServerMoved,
        Self::SharedSubscriptionsNotSupported,
        Self::ConnectionRateExceeded,
        Self::MaximumConnectTime,
        Self::SubscriptionIdentifiersNotSupported,
        Self::WildcardSubscriptionsNotSupported,
    ];

    /// The code on the wire of MQTT 5.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reason with this code; `None` for a code the standard does not know.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// Codes from 0x80 on tell a failure.
    pub const fn is_error(self) -> bool {
        self.code() >= 0x80
    }
}

/// CONNECT.
#[derive(Clone, Debug)]
pub struct Connect {
    /// 3.1.1 or 5.
    pub version: Version,
    /// Clean Session (3.1.1) or Clean Start (5).
    pub clean_start: bool,
    /// Seconds; 0 switches keep-alive off.
    pub keep_alive: u16,
    /// May be empty.
    pub client_id: String,
    /// User name, if the flag is set.
    pub username: Option<String>,
    /// Password, if the flag is set. Binary.
    pub password: Option<Bytes>,
    /// Will message.
    pub will: Option<Will>,
    /// Session Expiry Interval in seconds (5). `None`: absent.
    pub session_expiry: Option<u32>,
    /// How many QoS 1 and 2 publications the client takes at once (5); 65,535 when absent.
    pub receive_maximum: u16,
    /// The longest whole packet that the client takes, in bytes (5).
    pub maximum_packet_size: Option<u32>,
    /// How many topic aliases the client takes (5); 0 when absent.
    pub topic_alias_maximum: u16,
    /// Request Response Information (5).
    pub request_response_information: bool,
    /// Request Problem Information (5); true when absent.
    pub request_problem_information: bool,
    /// User properties (5).
    pub user_properties: Vec<(String, String)>,
    /// Authentication Method (5).
    pub authentication_method: Option<String>,
    /// Authentication Data (5).
    pub authentication_data: Option<Bytes>,
}

/// The will of a CONNECT.
#[derive(Clone, Debug)]
pub struct Will {
    /// Seconds to wait before it is published (5).
    pub delay: u32,
    /// The message. It has no packet identifier, whatever its QoS: that comes with the delivery.
    pub publish: Publish,
}

/// PUBLISH, either way.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Topic name; empty when an alias stands for it (5, inbound).
    pub topic: String,
    /// Payload. Inbound it is a copy, so that it does not pin the read buffer.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: Qos,
    /// DUP.
    pub dup: bool,
    /// RETAIN.
    pub retain: bool,
    /// Present exactly when QoS > 0 (except in a will).
    pub packet_id: Option<PacketId>,
    /// Properties (5).
    pub properties: PublishProperties,
}

/// Properties of a PUBLISH (5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties {
    /// Payload Format Indicator: the payload is UTF-8.
    pub payload_is_utf8: bool,
    /// Message Expiry Interval, seconds.
    pub message_expiry: Option<u32>,
    /// Topic Alias; never 0.
    pub topic_alias: Option<u16>,
    /// Response Topic.
    pub response_topic: Option<String>,
    /// Correlation Data.
    pub correlation_data: Option<Bytes>,
    /// User properties.
    pub user_properties: Vec<(String, String)>,
    /// Subscription Identifiers (outbound only).
    pub subscription_ids: Vec<u32>,
    /// Content Type.
    pub content_type: Option<String>,
}

/// Retain Handling of a subscription (5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetainHandling {
    /// Send retained messages at every SUBSCRIBE.
    Send,
    /// Only when the subscription is new.
    SendIfNew,
    /// Never.
    DoNotSend,
}

/// One filter of a SUBSCRIBE with its options. Its form is right; what it stands for, if anything, is for
/// [`crate::topic`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeFilter {
    /// Topic filter.
    pub filter: String,
    /// Highest QoS the client wants.
    pub qos: Qos,
    /// No Local (5).
    pub no_local: bool,
    /// Retain As Published (5).
    pub retain_as_published: bool,
    /// Retain Handling (5).
    pub retain_handling: RetainHandling,
}

/// A packet a client may send.
#[derive(Clone, Debug)]
pub enum In {
    /// CONNECT
    Connect(Box<Connect>),
    /// PUBLISH
    Publish(Box<Publish>),
    /// PUBACK
    PubAck(PacketId, Reason),
    /// PUBREC
    PubRec(PacketId, Reason),
    /// PUBREL
    PubRel(PacketId, Reason),
    /// PUBCOMP
    PubComp(PacketId, Reason),
    /// SUBSCRIBE
    Subscribe {
        /// Packet identifier.
        packet_id: PacketId,
        /// At least one.
        filters: Vec<SubscribeFilter>,
        /// Subscription Identifier (5); never 0.
        subscription_id: Option<u32>,
    },
    /// UNSUBSCRIBE
    Unsubscribe {
        /// Packet identifier.
        packet_id: PacketId,
        /// At least one.
        filters: Vec<String>,
    },
    /// PINGREQ
    PingReq,
    /// DISCONNECT
    Disconnect {
        /// Reason (5); `Success` in 3.1.1.
        reason: Reason,
        /// Session Expiry Interval (5).
        session_expiry: Option<u32>,
    },
    /// AUTH (5)
    Auth {
        /// `ContinueAuthentication` or `ReAuthenticate`.
        reason: Reason,
        /// Authentication Method.
        method: String,
        /// Authentication Data.
        data: Option<Bytes>,
    },
}

/// Acceptance in CONNACK, with what the server limits (5).
#[derive(Clone, Debug, Default)]
pub struct ConnAckProperties {
    /// Session Expiry Interval, when it differs from the client's wish.
    pub session_expiry: Option<u32>,
    /// Receive Maximum.
    pub receive_maximum: Option<u16>,
    /// Maximum QoS; `None` = 2.
    pub maximum_qos: Option<u8>,
    /// Retain Available; `None` = yes.
    pub retain_available: Option<bool>,
    /// Maximum Packet Size.
    pub maximum_packet_size: Option<u32>,
    /// Assigned Client Identifier.
    pub assigned_client_id: Option<String>,
    /// Topic Alias Maximum.
    pub topic_alias_maximum: Option<u16>,
    /// Reason String.
    pub reason_string: Option<String>,
    /// Wildcard Subscription Available.
    pub wildcard_available: Option<bool>,
    /// Subscription Identifier Available.
    pub subscription_ids_available: Option<bool>,
    /// Shared Subscription Available.
    pub shared_available: Option<bool>,
    /// Server Keep Alive, seconds.
    pub server_keep_alive: Option<u16>,
    /// Response Information.
    pub response_information: Option<String>,
    /// Authentication Method.
    pub authentication_method: Option<String>,
    /// User properties.
    pub user_properties: Vec<(String, String)>,
}

/// An acknowledgement's reason string and user properties (5; dropped in 3.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckProperties {
    /// Reason String.
    pub reason_string: Option<String>,
    /// User properties.
    pub user_properties: Vec<(String, String)>,
}

/// A packet the server sends.
#[derive(Clone, Debug)]
pub enum Out {
    /// CONNACK
    ConnAck {
        /// Session Present.
        session_present: bool,
        /// `Success` or an error.
        reason: Reason,
        /// Properties (5).
        properties: Box<ConnAckProperties>,
    },
    /// PUBLISH
    Publish(Box<Publish>),
    /// PUBACK
    PubAck(PacketId, Reason, AckProperties),
    /// PUBREC
    PubRec(PacketId, Reason, AckProperties),
    /// PUBREL
    PubRel(PacketId, Reason),
    /// PUBCOMP
    PubComp(PacketId, Reason),
    /// SUBACK
    SubAck(PacketId, Vec<Reason>, AckProperties),
    /// UNSUBACK
    UnsubAck(PacketId, Vec<Reason>),
    /// PINGRESP
    PingResp,
    /// DISCONNECT (5 only; writes nothing in 3.1.1).
    Disconnect(Reason, AckProperties),
    /// AUTH (5 only).
    Auth {
        /// Reason.
        reason: Reason,
        /// Authentication Method.
        method: String,
    },
}

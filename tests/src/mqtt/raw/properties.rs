//! Properties of MQTT 5, as far as tests look at them.

/// Properties of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Reason String.
    pub reason_string: String,
    /// User properties.
    pub user: Vec<(String, String)>,
    /// Session Expiry Interval.
    pub session_expiry: Option<u32>,
    /// Receive Maximum.
    pub receive_maximum: Option<u32>,
    /// Maximum Packet Size.
    pub maximum_packet_size: Option<u32>,
    /// Assigned Client Identifier.
    pub assigned_client_id: Option<String>,
    /// Server Keep Alive.
    pub server_keep_alive: Option<u32>,
    /// Topic Alias Maximum.
    pub topic_alias_maximum: Option<u32>,
    /// Topic Alias.
    pub topic_alias: Option<u32>,
    /// Payload Format Indicator.
    pub payload_format: Option<u32>,
    /// Message Expiry Interval.
    pub message_expiry: Option<u32>,
    /// Content Type.
    pub content_type: Option<String>,
    /// Response Topic.
    pub response_topic: Option<String>,
    /// Correlation Data, as text.
    pub correlation_data: Option<String>,
    /// Subscription Identifiers.
    pub subscription_ids: Vec<u32>,
    /// Response Information.
    pub response_information: Option<String>,
    /// Authentication Method.
    pub authentication_method: Option<String>,
}

impl Properties {
    /// A user property.
    pub fn user(&self, name: &str) -> Option<&str> {
        self.user.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Reads a property block with its length; answers how many bytes it takes. No bytes are no properties.
    pub(super) fn read(bytes: &[u8]) -> (Self, usize) {
        let Some((length, size)) = variable(bytes) else { return (Self::default(), 0) };
        let end = size + length as usize;
        let mut reader = Reader { bytes: &bytes[size..end] };
        let mut properties = Self::default();
        while let Some(id) = reader.take(1) {
            properties.take(id[0], &mut reader);
        }
        (properties, end)
    }

    fn take(&mut self, id: u8, reader: &mut Reader) {
        match id {
            0x11 => self.session_expiry = Some(reader.number(4)),
            0x12 => self.assigned_client_id = Some(reader.text()),
            0x1F => self.reason_string = reader.text(),
            0x21 => self.receive_maximum = Some(reader.number(2)),
            0x26 => {
                let name = reader.text();
                self.user.push((name, reader.text()));
            }
            0x27 => self.maximum_packet_size = Some(reader.number(4)),
            0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => drop(reader.number(1)),
            0x13 => self.server_keep_alive = Some(reader.number(2)),
            0x22 => self.topic_alias_maximum = Some(reader.number(2)),
            0x23 => self.topic_alias = Some(reader.number(2)),
            0x01 => self.payload_format = Some(reader.number(1)),
            0x02 => self.message_expiry = Some(reader.number(4)),
            0x03 => self.content_type = Some(reader.text()),
            0x08 => self.response_topic = Some(reader.text()),
            0x09 => self.correlation_data = Some(reader.text()),
            0x18 => drop(reader.number(4)),
            0x15 => self.authentication_method = Some(reader.text()),
            0x1A => self.response_information = Some(reader.text()),
            0x16 | 0x1C => drop(reader.text()),
            0x0B => {
                let (identifier, size) = variable(reader.bytes).expect("a subscription identifier");
                self.subscription_ids.push(identifier);
                reader.take(size);
            }
            unknown => panic!("property {unknown:#04x} is not one of MQTT 5"),
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn number(&mut self, size: usize) -> u32 {
        let bytes = self.take(size).expect("a property is whole");
        bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
    }

    fn text(&mut self) -> String {
        let length = self.number(2) as usize;
        let bytes = self.take(length).expect("a property is whole");
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// A variable byte integer and how many bytes it takes; `None` when it is not whole.
pub(super) fn variable(bytes: &[u8]) -> Option<(u32, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

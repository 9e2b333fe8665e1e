//! A cursor over one packet's body that never reads past its end. It looks at bytes only; that text is
//! UTF-8 is left to the codec.

use crate::packet::Reason;

/// Why a packet is refused: the first rule it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) detail: &'static str,
}

/// The packet cannot be parsed according to the standard: 0x81.
pub(super) const fn malformed(detail: &'static str) -> Fault {
    Fault { reason: Reason::MalformedPacket, detail }
}

/// The packet can be parsed, but not be meant: 0x82.
pub(super) const fn protocol_error(detail: &'static str) -> Fault {
    Fault { reason: Reason::ProtocolError, detail }
}

const TOO_SHORT: Fault = malformed("a field reaches past the end of the packet");

/// Positions are counted from the start of the body, in readers of a part of it too.
pub(super) struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0 }
    }

    /// Position of the next byte.
    pub(super) const fn position(&self) -> usize {
        self.at
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    pub(super) const fn remaining(&self) -> usize {
        self.body.len() - self.at
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(length).ok_or(TOO_SHORT)?;
        let bytes = self.body.get(self.at..end).ok_or(TOO_SHORT)?;
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Fault> {
        Ok(self.bytes(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Fault> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A variable byte integer.
    pub(super) fn variable(&mut self) -> Result<u32, Fault> {
        let (value, length) = variable(&self.body[self.at..])?.ok_or(TOO_SHORT)?;
        self.at += length;
        Ok(value)
    }

    /// Binary data with its length before it.
    pub(super) fn binary(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.u16()?;
        self.bytes(length.into())
    }

    /// Text with its length before it: no U+0000 `[MQTT-1.5.4-2]` (3.1.1: `[MQTT-1.5.3-2]`).
    pub(super) fn text(&mut self) -> Result<&'a [u8], Fault> {
        let text = self.binary()?;
        if text.contains(&0) {
            return Err(malformed("a text contains U+0000"));
        }
        Ok(text)
    }

    /// A reader of the next `length` bytes, which this one skips.
    pub(super) fn part(&mut self, length: usize) -> Result<Reader<'a>, Fault> {
        let at = self.at;
        self.bytes(length)?;
        Ok(Reader { body: &self.body[..self.at], at })
    }

    /// Nothing may be left.
    pub(super) const fn end(&self) -> Result<(), Fault> {
        if self.is_empty() { Ok(()) } else { Err(malformed("bytes are left after the last field")) }
    }
}

/// A variable byte integer at the start of `bytes` and how many bytes it takes; `None` when they end within it.
///
/// At most four bytes, and as few as the value needs `[MQTT-1.5.5-1]`. 3.1.1 does not forbid longer forms in so many
/// words; nobody sends them, and two spellings of one length are how filters in front of a server are got round.
pub(super) fn variable(bytes: &[u8]) -> Result<Option<(u32, usize)>, Fault> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return Err(malformed("a variable byte integer is longer than it needs to be"));
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 {
        Err(malformed("a variable byte integer has more than four bytes"))
    } else {
        Ok(None)
    }
}

/// How many bytes `value` takes as a variable byte integer.
pub(super) const fn variable_length(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

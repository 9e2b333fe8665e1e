//! One JSON value a line, of bounded length.

use serde::{Serialize, de::DeserializeOwned};
use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest line, its end included.
pub(super) const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Reads one line and what it says. [`io::ErrorKind::UnexpectedEof`] when the other end closed before the line ended,
/// [`io::ErrorKind::InvalidData`] when the line is too long or does not say a `T`.
pub(super) async fn read_message<T: DeserializeOwned>(
    reader: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<T> {
    let mut line = Vec::new();
    reader.take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line).await?;
    if line.last() != Some(&b'\n') {
        return Err(if line.len() == MAX_LINE_BYTES {
            io::Error::new(io::ErrorKind::InvalidData, format!("longer than {MAX_LINE_BYTES} bytes"))
        } else {
            io::ErrorKind::UnexpectedEof.into()
        });
    }
    // serde_json's own text may quote a password.
    serde_json::from_slice(&line).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "not what this version understands",
            _ => "not valid JSON",
        };
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

/// Writes `message` as one line.
pub(super) async fn write_message(
    writer: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() > MAX_LINE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("longer than {MAX_LINE_BYTES} bytes"),
        ));
    }
    writer.write_all(&line).await?;
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    async fn read(bytes: &[u8]) -> io::Result<u32> {
        read_message(&mut &*bytes).await
    }

    #[tokio::test]
    async fn a_line_is_one_message() {
        let mut bytes: &[u8] = b"1\n2\n";
        assert_eq!(read_message::<u32>(&mut bytes).await.unwrap(), 1);
        assert_eq!(read_message::<u32>(&mut bytes).await.unwrap(), 2);
        assert_eq!(read_message::<u32>(&mut bytes).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_is_no_message_is_told_apart() {
        assert_eq!(read(b"1").await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(read(b"?\n").await.unwrap_err().to_string(), "not valid JSON");
        assert_eq!(
            read(b"\"hunter2\"\n").await.unwrap_err().to_string(),
            "not what this version understands"
        );
    }

    #[tokio::test]
    async fn a_line_has_a_bound_both_ways() {
        let endless = vec![b' '; MAX_LINE_BYTES + 10];
        assert!(read(&endless).await.unwrap_err().to_string().starts_with("longer than"));
        let error = write_message(&mut Vec::new(), &"x".repeat(MAX_LINE_BYTES)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
}

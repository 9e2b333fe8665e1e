//! Passwords: from standard input, asked for without echo, or generated. Never from the command line, where every
//! process list shows them.

use crate::failure::Failure;
use console::Term;
use curlew_domain::secret::Secret;
use rand::RngExt;
use std::io::{self, BufRead, IsTerminal};

/// A password and whether its owner knows it already.
#[derive(Debug)]
pub struct Password {
    /// The password.
    pub secret: Secret<String>,
    /// Made by us: it has to be shown, once.
    pub generated: bool,
}

/// Far more than a password may have: 71 bytes.
const MAX_LINE_BYTES: u64 = 1024;
/// Without characters that look alike.
const ALPHABET: &[u8] = b"23456789abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ";
/// 20 of 55 characters: 115 bits.
const GENERATED_LENGTH: usize = 20;

/// Reads the first line of standard input with `from_stdin`; otherwise asks when there is a terminal, and generates one
/// when there is none or nothing was typed.
pub fn obtain(from_stdin: bool) -> Result<Password, Failure> {
    let given = if from_stdin {
        Some(read_line(io::stdin().lock())?)
    } else if io::stdin().is_terminal() && io::stderr().is_terminal() {
        ask(&Term::stderr()).map_err(|error| Failure::usage(format!("cannot ask for a password: {error}")))?
    } else {
        None
    };
    Ok(match given {
        Some(text) => Password { secret: Secret::new(text), generated: false },
        None => Password { secret: Secret::new(generate()), generated: true },
    })
}

fn read_line(input: impl BufRead) -> Result<String, Failure> {
    let mut line = String::new();
    input
        .take(MAX_LINE_BYTES)
        .read_line(&mut line)
        .map_err(|error| Failure::usage(format!("cannot read a password from standard input: {error}")))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::usage("standard input has no password").with_hint("the first line is taken"));
    }
    Ok(password.to_owned())
}

fn ask(terminal: &Term) -> io::Result<Option<String>> {
    loop {
        terminal.write_str("Password (nothing: one is generated): ")?;
        let first = terminal.read_secure_line()?;
        if first.is_empty() {
            return Ok(None);
        }
        terminal.write_str("Once more: ")?;
        if terminal.read_secure_line()? == first {
            return Ok(Some(first));
        }
        terminal.write_line("These were different.")?;
    }
}

fn generate() -> String {
    let mut rng = rand::rng();
    (0..GENERATED_LENGTH).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_password() {
        assert_eq!(read_line(&b"correct horse\nbattery\n"[..]).unwrap(), "correct horse");
        assert_eq!(read_line(&b" spaces stay \r\n"[..]).unwrap(), " spaces stay ");
        assert_eq!(read_line(&b"no end"[..]).unwrap(), "no end");
        for nothing in [&b""[..], b"\n", b"\xff\xfe\n"] {
            assert!(matches!(read_line(nothing), Err(Failure::Usage { .. })));
        }
    }

    #[test]
    fn a_generated_password_is_new_each_time_and_as_long_as_promised() {
        let (one, two) = (generate(), generate());
        assert_ne!(one, two);
        assert!(one.len() == GENERATED_LENGTH && one.bytes().all(|b| ALPHABET.contains(&b)), "{one}");
    }
}

//! The generated key that signs tokens.

use super::{DataDirError, LockedDataDir, write_atomically};
use curlew_domain::secret::Secret;
use rand::{TryRng, rngs::SysRng};
use std::{fmt::Write, fs, io};

const FILE: &str = "jwt-secret";
/// As for a given secret: a shorter key than its hash weakens HS256 (RFC 7518, 3.2).
const MIN_BYTES: usize = 32;

impl LockedDataDir {
    /// Reads `jwt-secret`, or generates it: 256 random bits from the system, as hexadecimal digits, mode 0600. The lock
    /// makes sure that nobody else generates another one meanwhile.
    pub fn jwt_secret(&self) -> Result<Secret<String>, DataDirError> {
        let path = self.path().join(FILE);
        let failed = |problem: &dyn std::fmt::Display| self.dir.unusable(format_args!("{FILE}: {problem}"));
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().len() >= MIN_BYTES => Ok(Secret::new(text.trim().to_owned())),
            Ok(_) => Err(failed(
                &"it is shorter than 32 bytes; delete it, and a new one is made that ends all logins",
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secret = generate().map_err(|error| failed(&error))?;
                write_atomically(&path, format!("{secret}\n").as_bytes(), 0o600)
                    .map_err(|error| failed(&error))?;
                Ok(Secret::new(secret))
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

fn generate() -> Result<String, rand::rngs::SysError> {
    let mut bytes = [0_u8; 32];
    SysRng.try_fill_bytes(&mut bytes)?;
    Ok(bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    }))
}

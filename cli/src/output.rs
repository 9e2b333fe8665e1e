//! What people and scripts read: results on standard output, failures on standard error.

use crate::failure::Failure;
use comfy_table::{Table, presets};
use serde::Serialize;
use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
};

/// How a command prints its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For scripts; the fields are stable.
    Json,
}

/// `--output`, for every command that has a result.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct OutputOpts {
    /// How to print the result
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    pub output: Format,
}

impl OutputOpts {
    /// Prints `result` as JSON, or what `text` makes of it.
    pub fn print<T: Serialize>(self, result: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        match self.output {
            Format::Json => print(&serde_json::to_string(result).map_err(anyhow::Error::from)?),
            Format::Table => print(&text(result)),
        }
    }
}

/// Writes `text` and a line end to standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// A table with a header, aligned in columns, without lines: `cut`, `awk` and eyes can read it.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().map(|title| title.to_uppercase()));
    table.add_rows(
        rows.into_iter()
            .map(|row| row.into_iter().map(|cell| printable(&cell).into_owned()).collect::<Vec<_>>()),
    );
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// Prints `error: …` lines and perhaps a `hint: …`. Standard error closed: nobody to tell.
pub fn print_failure(failure: &Failure) {
    let err = io::stderr();
    let paint = Paint::for_stream(&err);
    let mut err = err.lock();
    let messages = failure.messages();
    for message in &messages {
        let _ = writeln!(err, "{} {}", paint.red("error:"), printable(message));
    }
    if let Some(hint) = failure.hint().filter(|_| !messages.is_empty()) {
        let _ = writeln!(err, "{} {}", paint.cyan("hint:"), printable(hint));
    }
}

/// Prints a `warning: …` line, for commands that have no log.
pub fn print_warning(text: &str) {
    let err = io::stderr();
    let paint = Paint::for_stream(&err);
    let _ = writeln!(err.lock(), "{} {}", paint.yellow("warning:"), printable(text));
}

/// Whether `stream` gets colours: a terminal, and `NO_COLOR` (no-color.org) is unset or empty.
pub fn has_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `text` with control characters spelt out. Names come from users, and a terminal obeys escape sequences.
pub fn printable(text: &str) -> Cow<'_, str> {
    // U+202A..U+202E and U+2066..U+2069 turn the direction of what follows.
    let harmful = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let spell = |c: char| if harmful(c) { c.escape_default().collect() } else { c.to_string() };
    Cow::Owned(text.chars().map(spell).collect())
}

/// `text` as one word of a POSIX shell.
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
    }
}

/// Colours, or none.
#[derive(Clone, Copy)]
struct Paint {
    on: bool,
}

impl Paint {
    fn for_stream(stream: &impl IsTerminal) -> Self {
        Self { on: has_colour(stream) }
    }

    fn red(self, text: &str) -> String {
        self.coloured(31, text)
    }

    fn yellow(self, text: &str) -> String {
        self.coloured(33, text)
    }

    fn cyan(self, text: &str) -> String {
        self.coloured(36, text)
    }

    fn coloured(self, code: u8, text: &str) -> String {
        if self.on { format!("\x1b[1;{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_blanks() {
        let rows = [vec!["1".to_owned(), "alice".to_owned()], vec!["22".to_owned(), "b".to_owned()]];
        assert_eq!(table(&["id", "name"], rows), "ID  NAME\n1   alice\n22  b");
        assert_eq!(table(&["id", "name"], []), "ID  NAME");
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        let rows = [vec!["\x1b[2Jx\ny\u{202e}".to_owned()]];
        assert_eq!(table(&["name"], rows), "NAME\n\\u{1b}[2Jx\\ny\\u{202e}");
        assert!(matches!(printable("Zoë 🙂"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        assert_eq!(shell_word("./data-1"), "./data-1");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn colours_are_either_there_or_not() {
        assert_eq!(Paint { on: false }.red("error:"), "error:");
        assert_eq!(Paint { on: true }.red("error:"), "\x1b[1;31merror:\x1b[0m");
    }
}

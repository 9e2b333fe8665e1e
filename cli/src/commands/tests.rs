use super::*;
use clap::{CommandFactory, Parser};

fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from([&["curlew"], arguments].concat())
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn no_command_is_serve_with_its_flags() {
    let flags = ["--data-dir", "d", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--ready-file", "r"];
    assert!(parse(&flags).unwrap().command.is_none());
    assert!(matches!(parse(&[&["serve"], &flags[..]].concat()).unwrap().command, Some(Command::Serve(_))));
    assert!(parse(&[]).unwrap().command.is_none());
}

#[test]
fn wrong_use_is_told_apart_from_help() {
    for wrong in [
        &["--htpp", "x"][..],
        &["users"],
        &["users", "create"],
        &["serv"],
        &["users", "list", "--limit", "0"],
    ] {
        let answer = parse(wrong).unwrap_err();
        assert!(answer.use_stderr(), "{wrong:?}: {answer}");
    }
    // Flags of serve before another command would be lost.
    assert!(parse(&["--data-dir", "d", "demo"]).is_err());
    for help in [&["--help"][..], &["--version"], &["serve", "--help"], &["users", "--help"]] {
        assert!(!parse(help).unwrap_err().use_stderr(), "{help:?}");
    }
}

#[test]
fn a_password_on_the_command_line_is_refused() {
    assert!(parse(&["users", "create", "alice", "--password", "hunter2"]).is_err());
    assert!(parse(&["users", "create", "alice", "--password-stdin"]).is_ok());
}

#[test]
fn parsed_flags_show_no_secret() {
    let cli =
        parse(&["--database-url", "postgres://u:hunter2@h/d", "--redis-url", "redis://:hunter2@h"]).unwrap();
    assert!(!format!("{cli:?}").contains("hunter2"));
}

#[test]
fn a_command_names_the_data_directory_unless_it_is_the_default() {
    assert_eq!(with_data_dir("curlew demo", Path::new("./curlew-data")), "curlew demo");
    assert_eq!(with_data_dir("curlew demo", Path::new("/a b")), "curlew demo --data-dir '/a b'");
}

//! `curlew users`: accounts, whoever may register otherwise.

use super::password;
use crate::{
    admin::{AdminReply, AdminRequest, UserCreated, UserPage},
    config::CommonFlags,
    failure::Failure,
    output::{self, OutputOpts},
};
use serde::Serialize;

/// What can be done with users.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Create a user
    Create(CreateOpts),
    /// List users
    List(ListOpts),
}

/// Options of `curlew users create`.
#[derive(Debug, clap::Args)]
pub struct CreateOpts {
    /// 3 to 32 of a-z, 0-9, _ and .
    username: String,
    /// Name that people see [default: the user name]
    #[arg(long, value_name = "NAME")]
    display_name: Option<String>,
    /// Take the password, 8 to 71 bytes, from the first line of standard input [default: asked for on a terminal, or
    /// generated]
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    output: OutputOpts,
    #[command(flatten)]
    flags: CommonFlags,
}

/// Options of `curlew users list`.
#[derive(Debug, clap::Args)]
pub struct ListOpts {
    /// At most this many
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    output: OutputOpts,
    #[command(flatten)]
    flags: CommonFlags,
}

/// Runs `command`.
pub fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Create(opts) => create(opts),
        Command::List(opts) => list(opts),
    }
}

/// A created user, with the password when nobody has seen it yet.
#[derive(Serialize)]
struct Created {
    #[serde(flatten)]
    user: UserCreated,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

fn create(opts: &CreateOpts) -> Result<(), Failure> {
    let config = super::configuration(&opts.flags)?;
    let password = password::obtain(opts.password_stdin)?;
    let request = AdminRequest::UsersCreate {
        username: opts.username.clone(),
        password: password.secret.clone(),
        display_name: opts.display_name.clone(),
    };
    let AdminReply::UserCreated(user) = super::administer(&config, request)? else {
        return Err(super::unexpected_reply());
    };
    // Exposed to the one who has to hand it on; it is kept nowhere.
    let password = password.generated.then(|| password.secret.expose().clone());
    opts.output.print(&Created { user, password }, created_text)
}

fn created_text(created: &Created) -> String {
    let user = format!("Created {} ({}).", created.user.username, created.user.user_id);
    match &created.password {
        Some(password) => format!("{user}\nPassword: {password}  (generated; it is not shown again)"),
        None => user,
    }
}

fn list(opts: &ListOpts) -> Result<(), Failure> {
    let config = super::configuration(&opts.flags)?;
    let request = AdminRequest::UsersList { cursor: opts.cursor.clone(), limit: opts.limit };
    let AdminReply::Users(page) = super::administer(&config, request)? else {
        return Err(super::unexpected_reply());
    };
    opts.output.print(&page, list_text)
}

fn list_text(page: &UserPage) -> String {
    let rows = page.items.iter().map(|user| {
        vec![user.user_id.clone(), user.username.clone(), user.display_name.clone(), user.created_at.clone()]
    });
    let table = output::table(&["id", "username", "name", "created"], rows);
    match &page.next_cursor {
        Some(cursor) => format!("{table}\n\nThere are more: --cursor {}", output::shell_word(cursor)),
        None => table,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::UserEntry;

    #[test]
    fn a_page_says_how_to_get_the_next() {
        let user = UserEntry {
            user_id: "1".into(),
            username: "alice".into(),
            display_name: "Alice A.".into(),
            created_at: "2026-11-24T10:00:00.000Z".into(),
        };
        let page = UserPage { items: vec![user], next_cursor: Some("abc".into()) };
        let expected = "ID  USERNAME  NAME      CREATED\n1   alice     Alice A.  2026-11-24T10:00:00.000Z\n\n\
                        There are more: --cursor abc";
        assert_eq!(list_text(&page), expected);
    }

    #[test]
    fn only_a_generated_password_is_shown() {
        let user = || UserCreated { user_id: "1".into(), username: "bob".into(), display_name: "bob".into() };
        let given = Created { user: user(), password: None };
        assert_eq!(created_text(&given), "Created bob (1).");
        assert_eq!(
            serde_json::to_string(&given).unwrap(),
            r#"{"userId":"1","username":"bob","displayName":"bob"}"#
        );
        assert!(
            created_text(&Created { user: user(), password: Some("s3cret".into()) })
                .contains("Password: s3cret")
        );
    }
}

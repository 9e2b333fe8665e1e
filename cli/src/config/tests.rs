//! The sources together.

use super::*;
use curlew_domain::secret::Secret;
use std::{path::PathBuf, time::Duration};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Loads with a file of this content. Never without a file: the default one is looked for in the working directory.
fn load_with(file: &str, environment: &[(&str, &str)], flags: ServeFlags) -> Result<Loaded, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("curlew.toml");
    std::fs::write(&path, file).unwrap();
    let common = CommonFlags { config: Some(path), ..flags.common };
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
    load(&Flags::from(&ServeFlags { common, ..flags }), environment)
        .map_err(|mistakes| mistakes.0.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn one_mistake(file: &str, environment: &[(&str, &str)], flags: ServeFlags) -> String {
    let mut mistakes = load_with(file, environment, flags).unwrap_err();
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    mistakes.remove(0)
}

fn http(address: &str) -> ServeFlags {
    ServeFlags { http: Some(address.to_owned()), ..ServeFlags::default() }
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let file = "[http]\nlisten = '127.0.0.1:1'\n[auth]\nbcrypt_cost = 5\n[limits]\ndevices = 3";
    let environment = [("CURLEW_HTTP_LISTEN", "127.0.0.1:2"), ("CURLEW_AUTH_BCRYPT_COST", "6")];
    let config = load_with(file, &environment, http("127.0.0.1:3")).unwrap().config;
    assert_eq!(config.http.listen.port(), 3);
    assert_eq!(config.auth.bcrypt_cost, 6);
    assert_eq!(config.limits.devices, 3);
    assert_eq!(config.server.data_dir, PathBuf::from("./curlew-data"));
}

#[test]
fn an_overridden_value_is_not_looked_at() {
    assert!(load_with("[http]\nlisten = 'nonsense'", &[("PORT", "x")], http("127.0.0.1:3")).is_ok());
}

#[test]
fn all_mistakes_of_all_sources_are_reported_at_once() {
    let file =
        "x = 1\n[htpp]\nlisten = 1\n[http]\nlitsen = 1\n[auth]\nregistration = 'maybe'\nbcrypt_cost = [4]";
    let flags = ServeFlags {
        mqtt: Some("localhost".into()),
        redis_url: Some("redis://:pw@h".to_owned().into()),
        ..http("x")
    };
    let mistakes = load_with(file, &[("CURLEW_COMMIT_PATIENCE", "1h")], flags).unwrap_err().join("\n");
    for part in [
        "curlew.toml: x is outside of any section",
        "curlew.toml: [htpp] is no known section; there are server, http, mqtt,",
        "curlew.toml: http.litsen is no known key; [http] has listen",
        "curlew.toml: auth.registration = \"maybe\": must be open or invite or closed",
        "curlew.toml: auth.bcrypt_cost must be one value, not a list",
        "environment variable CURLEW_COMMIT_PATIENCE: commit.patience = \"1h\": must be a duration from 100ms to 5m",
        "--http: http.listen = \"x\": must be an IP address and a port",
        "--mqtt: mqtt.listen = \"localhost\": must be an IP address and a port",
        "--redis-url: Redis is not supported by this version",
    ] {
        assert!(mistakes.contains(part), "{part:?} is missing in:\n{mistakes}");
    }
    assert_eq!(mistakes.lines().count(), 9, "{mistakes}");
    assert!(!mistakes.contains("pw"), "{mistakes}");
}

#[test]
fn common_variables_are_understood_and_weaker_than_ours() {
    let environment = [
        ("DATABASE_URL", "postgres://u:p@h/one"),
        ("JWT_SECRET", SECRET),
        ("JWT_EXPIRES_IN", "15m"),
        ("PORT", "9000"),
        ("CURLEW_DATABASE_URL", "postgres://u:p@h/two"),
    ];
    let config = load_with("", &environment, ServeFlags::default()).unwrap().config;
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:9000");
    assert_eq!(config.auth.access_token_ttl, Duration::from_mins(15));
    assert_eq!(config.auth.jwt_secret.unwrap().expose(), SECRET);
    let Database::Postgres(url) = config.database.url else { panic!("embedded") };
    assert_eq!(url.expose(), "postgres://u:p@h/two");
}

#[test]
fn a_wrong_port_is_called_a_port() {
    let mistake = one_mistake("", &[("PORT", "127.0.0.1:80")], ServeFlags::default());
    assert_eq!(
        mistake,
        "environment variable PORT: http.listen = \"127.0.0.1:80\": must be a port number, 0 to 65535"
    );
}

#[test]
fn an_empty_variable_is_none() {
    let environment = [("DATABASE_URL", ""), ("CURLEW_HTTP_LISTEN", ""), ("PORT", ""), ("REDIS_URL", "")];
    let loaded = load_with("[http]\nlisten = '127.0.0.1:7'", &environment, ServeFlags::default()).unwrap();
    assert_eq!(loaded.config.http.listen.port(), 7);
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn what_has_no_effect_is_said_without_its_value() {
    let environment = [
        ("CURLEW_HTPP_LISTEN", "hunter2"),
        ("CURLEW_TEST_POSTGRES", "x"),
        ("CURLEWISH", "x"),
        ("REDIS_PASSWORD", "hunter2"),
        ("CLOUDINARY_API_SECRET", "hunter2"),
    ];
    let warnings = load_with("", &environment, ServeFlags::default()).unwrap().warnings;
    assert_eq!(
        warnings,
        [
            "environment variable CLOUDINARY_API_SECRET has no effect in this version",
            "environment variable CURLEW_HTPP_LISTEN is no known setting and has no effect",
            "environment variable REDIS_PASSWORD has no effect in this version",
        ]
    );
}

#[test]
fn postgres_needs_a_secret_unless_the_secret_itself_is_wrong() {
    let postgres = ("DATABASE_URL", "postgres://u:p@h/d");
    let mistake = one_mistake("", &[postgres], ServeFlags::default());
    assert!(mistake.starts_with("auth.jwt_secret is required with PostgreSQL"), "{mistake}");
    let mistake = one_mistake("", &[postgres, ("JWT_SECRET", "hunter2")], ServeFlags::default());
    assert_eq!(
        mistake,
        "environment variable JWT_SECRET: auth.jwt_secret = [redacted]: must be at least 32 bytes long"
    );
}

#[test]
fn no_mistake_and_no_debug_output_shows_a_secret() {
    let mistake = one_mistake("", &[("DATABASE_URL", "mysql://u:hunter2@h/d")], ServeFlags::default());
    assert!(
        mistake.contains("mysql://u:[redacted]@h/d") && mistake.contains("sqlite: URLs are not"),
        "{mistake}"
    );
    let mistake = one_mistake("[auth]\njwt_secret = 'hunter2' hunter2", &[], ServeFlags::default());
    assert!(mistake.contains("line 2 is not valid TOML") && !mistake.contains("hunter2"), "{mistake}");

    let environment = [("JWT_SECRET", SECRET), ("DATABASE_URL", "postgres://u:hunter2@h/d")];
    let flags = ServeFlags::default();
    let shown = format!("{:?}", load_with("", &environment, flags).unwrap());
    assert!(!shown.contains(SECRET) && !shown.contains("hunter2"), "{shown}");
    let common =
        CommonFlags { database_url: Some(Secret::new("hunter2".to_owned())), ..CommonFlags::default() };
    assert!(!format!("{:?} {common:?}", Flags::from(&common)).contains("hunter2"));
}

#[test]
fn settings_that_cannot_go_together_are_refused() {
    let mistake = one_mistake("[mqtt]\nlisten = '127.0.0.1:8080'", &[], ServeFlags::default());
    assert!(mistake.contains("mqtt.listen must differ from http.listen"), "{mistake}");
    let mistake = one_mistake("[limits]\ntext_bytes = 300000", &[], ServeFlags::default());
    assert!(
        mistake.contains("limits.text_bytes must be less than limits.mqtt_packet_bytes (262144)"),
        "{mistake}"
    );
    let mistakes = load_with("[tls]\nlisten = '127.0.0.1:1883'", &[], ServeFlags::default()).unwrap_err();
    assert_eq!(mistakes.len(), 3, "{mistakes:#?}");
    assert!(mistakes[0].ends_with("tls.certificate is required with tls.listen"), "{mistakes:#?}");
    assert!(mistakes[1].ends_with("tls.key is required with tls.listen"), "{mistakes:#?}");
    assert!(mistakes[2].contains("tls.listen must differ from mqtt.listen"), "{mistakes:#?}");
    let forgotten = load_with("[tls]\nkey = 'key.pem'", &[], ServeFlags::default()).unwrap();
    assert_eq!(forgotten.warnings, ["tls.key has no effect without tls.listen"]);
    let zero = "[mqtt]\nlisten = '127.0.0.1:0'\n[http]\nlisten = '127.0.0.1:0'";
    assert!(load_with(zero, &[], ServeFlags::default()).is_ok());
}

#[test]
fn a_named_file_must_be_there() {
    let common =
        CommonFlags { config: Some(PathBuf::from("/nowhere/curlew.toml")), ..CommonFlags::default() };
    let mistakes = load(&Flags::from(&common), []).unwrap_err();
    assert!(mistakes.0[0].to_string().starts_with("/nowhere/curlew.toml: cannot be read: No such file"));
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_a_mistake() {
    use std::os::unix::ffi::OsStringExt;
    let value = OsString::from_vec(vec![0xff]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.toml");
    std::fs::write(&path, "").unwrap();
    let flags = Flags { config: Some(path), ..Flags::default() };
    let mistakes = load(&flags, [("JWT_SECRET".into(), value)]).unwrap_err();
    assert_eq!(
        mistakes.0[0].to_string(),
        "environment variable JWT_SECRET: auth.jwt_secret is not valid UTF-8"
    );
}

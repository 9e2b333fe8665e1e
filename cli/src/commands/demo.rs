//! `curlew demo`: two users, one chat, and what to paste to see it work.

use crate::{
    admin::{AdminReply, AdminRequest, DemoActor, DemoChat, Endpoints},
    config::{CommonFlags, Config},
    failure::Failure,
    output::{OutputOpts, shell_word},
};

/// Options of `curlew demo`.
#[derive(Debug, clap::Args)]
pub struct Opts {
    #[command(flatten)]
    output: OutputOpts,
    #[command(flatten)]
    flags: CommonFlags,
}

/// Makes the two users, or finds them, and prints how to play with them.
pub fn run(opts: &Opts) -> Result<(), Failure> {
    let config = super::configuration(&opts.flags)?;
    let AdminReply::Demo { chat, endpoints } = super::administer(&config, AdminRequest::Demo {})? else {
        return Err(super::unexpected_reply());
    };
    opts.output.print(&chat, |chat| text(chat, endpoints.as_ref(), &config))
}

fn text(chat: &DemoChat, server: Option<&Endpoints>, config: &Config) -> String {
    let configured = Endpoints::from(config);
    let commands = Commands { endpoints: server.unwrap_or(&configured), chat };
    let start = match server {
        Some(_) => String::new(),
        None => {
            format!("No server is running. Start it first:\n\n  {}\n\n", super::command_line("serve", config))
        }
    };
    let DemoChat { alice, bob, chat_id } = chat;
    format!(
        "Alice and Bob are contacts. Their chat is {chat_id}.\n\n\
         {start}\
         Bob listens (terminal 1). His session lasts a day: stop it, let Alice write, start it again, and nothing is\n\
         missed.\n\n  {bob_listens}\n\n\
         Alice listens (terminal 2):\n\n  {alice_listens}\n\n\
         Alice writes, and Bob answers (terminal 3):\n\n  {alice_writes}\n\n  {bob_answers}\n\n\
         The same chat over HTTP:\n\n  {write}\n\n  {read}\n\n\
         To log in: {alice_name} with the password {alice_password}, {bob_name} with {bob_password}.",
        bob_listens = commands.listen(bob),
        alice_listens = commands.listen(alice),
        alice_writes = commands.publish(alice, "Hello, Bob"),
        bob_answers = commands.publish(bob, "Hello, Alice"),
        write = commands.post(alice, "Hello from HTTP"),
        read = commands.get(bob),
        alice_name = alice.username,
        // Exposed to the operator: these two users are there to be played with.
        alice_password = alice.password.expose(),
        bob_name = bob.username,
        bob_password = bob.password.expose(),
    )
}

/// Commands for a shell; every one stands on its own.
struct Commands<'a> {
    endpoints: &'a Endpoints,
    chat: &'a DemoChat,
}

impl Commands<'_> {
    fn listen(&self, actor: &DemoActor) -> String {
        let options = self.mqtt_options(actor);
        format!("mosquitto_sub {options} -i phone -c -x 86400 -q 1 -t 'chats/+/messages'")
    }

    /// With a client identifier other than the listener's: the same one would take its session over.
    fn publish(&self, actor: &DemoActor, text: &str) -> String {
        let topic = shell_word(&format!("chats/{}/send", self.chat.chat_id)).into_owned();
        format!("mosquitto_pub {} -i pen -q 1 -t {topic} -m {}", self.mqtt_options(actor), message(text))
    }

    fn mqtt_options(&self, actor: &DemoActor) -> String {
        let address = crate::address::reachable(self.endpoints.mqtt);
        let (user, token) = (shell_word(&actor.username), shell_word(actor.token.expose()));
        format!("-V mqttv5 -h {} -p {} -u {user} -P {token}", address.ip(), address.port())
    }

    fn post(&self, actor: &DemoActor, text: &str) -> String {
        format!("{} -H 'Content-Type: application/json' -d {}", self.get(actor), message(text))
    }

    fn get(&self, actor: &DemoActor) -> String {
        let address = crate::address::reachable(self.endpoints.http);
        let url = format!("http://{address}/api/chats/{}/messages", self.chat.chat_id);
        let bearer = format!("Authorization: Bearer {}", actor.token.expose());
        format!("curl -sS {} -H {}", shell_url(&url), shell_word(&bearer))
    }
}

/// An IPv6 address has brackets, which are a pattern to a shell and a range to curl.
fn shell_url(url: &str) -> String {
    if url.contains('[') { format!("-g {}", shell_word(url)) } else { shell_word(url).into_owned() }
}

/// The body of a text message, quoted.
fn message(text: &str) -> String {
    shell_word(&serde_json::json!({ "type": "TEXT", "text": text }).to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use curlew_domain::secret::Secret;

    fn actor(name: &str) -> DemoActor {
        DemoActor {
            user_id: "1".into(),
            username: name.into(),
            password: Secret::new("pw".into()),
            device_id: "2".into(),
            token: Secret::new(format!("{name}-token")),
        }
    }

    fn chat() -> DemoChat {
        DemoChat { alice: actor("alice"), bob: actor("bob"), chat_id: "0190".into() }
    }

    #[test]
    fn the_json_is_as_the_contract_says() {
        let person = |name| {
            format!(
                r#"{{"userId":"1","username":"{name}","password":"pw","deviceId":"2","token":"{name}-token"}}"#
            )
        };
        let expected = format!(r#"{{"alice":{},"bob":{},"chatId":"0190"}}"#, person("alice"), person("bob"));
        assert_eq!(serde_json::to_string(&chat()).unwrap(), expected);
    }

    #[test]
    fn the_commands_can_be_pasted() {
        let endpoints = Endpoints {
            http: "0.0.0.0:80".parse().unwrap(),
            mqtt: "127.0.0.1:1884".parse().unwrap(),
            mqtts: None,
        };
        let chat = chat();
        let commands = Commands { endpoints: &endpoints, chat: &chat };
        assert_eq!(
            commands.listen(&chat.bob),
            "mosquitto_sub -V mqttv5 -h 127.0.0.1 -p 1884 -u bob -P bob-token -i phone -c -x 86400 -q 1 \
             -t 'chats/+/messages'"
        );
        assert_eq!(
            commands.publish(&chat.alice, "it's me"),
            "mosquitto_pub -V mqttv5 -h 127.0.0.1 -p 1884 -u alice -P alice-token -i pen -q 1 -t chats/0190/send \
             -m '{\"text\":\"it'\\''s me\",\"type\":\"TEXT\"}'"
        );
        assert_eq!(
            commands.get(&chat.bob),
            "curl -sS http://127.0.0.1:80/api/chats/0190/messages -H 'Authorization: Bearer bob-token'"
        );
        let six = Endpoints { http: "[::]:80".parse().unwrap(), ..endpoints.clone() };
        let got = Commands { endpoints: &six, chat: &chat }.get(&chat.bob);
        assert!(got.starts_with("curl -sS -g 'http://[::1]:80/api/"), "{got}");
    }
}

//! Real answers against the OpenAPI document: every documented operation is done as [`recipes`] say, and refused in every
//! way that follows from what it takes. Status, headers, content type and body must be as documented; a field that is not
//! documented is a fault.
//!
//! A new operation needs an arm in [`recipes::of`]: calls by which each of its successes is answered, and each code that it names.

mod recipes;
mod schema;

use curlew_tests::{
    Actor, Answer, Chat, Http, Sent, TestServer, Value, both_engines, http::Method, json, server::Setup,
};
use recipes::Call;
use schema::Document;
use std::collections::BTreeSet;

/// An id of nothing.
const NOTHING: &str = "0192f0c1-0000-7000-8000-000000000001";

/// Codes that are not tried here: they need another configuration, many people, much time or a broken server.
const UNTRIED: [&str; 8] = [
    "group-full",
    "internal",
    "not-found",
    "registration-closed",
    "request-timeout",
    "too-late",
    "too-many-requests",
    "unavailable",
];

/// People, and what they have: made anew for every operation, so that none depends on another.
struct Scene<'a> {
    server: &'a TestServer,
    alice: Actor,
    /// A contact of Alice's.
    bob: Actor,
    /// A stranger.
    carol: Actor,
    /// A contact of Alice's.
    dora: Actor,
    /// A stranger who has blocked Alice.
    erin: Actor,
    /// Of Alice and Bob.
    chat: Chat,
    /// Alice's, with Bob in it. Dora was.
    group: Chat,
    /// From Alice to the group, when Dora was in it.
    message: Sent,
    /// From Bob to the chat.
    private: Sent,
    anyone: Http,
}

impl<'a> Scene<'a> {
    async fn new(server: &'a TestServer, number: usize) -> Self {
        let names = ["alice", "bob", "carol", "dora", "erin"].map(|name| format!("{name}_{number}"));
        let [alice, bob, dora] = server.contacts([&names[0], &names[1], &names[3]]).await;
        let (carol, erin) = (server.user(&names[2]).await, server.user(&names[4]).await);
        erin.http.post("/contacts/block", json!({ "userId": alice.id })).await.expect(200);
        let chat = alice.private_chat(&bob).await;
        let group = alice.group("birders", &[&bob, &dora]).await;
        let message = alice.post(&group, "hello").await;
        alice.remove(&group, &dora).await;
        let private = bob.post(&chat, "hello").await;
        Self {
            server,
            alice,
            bob,
            carol,
            dora,
            erin,
            chat,
            group,
            message,
            private,
            anyone: server.anonymous(),
        }
    }
}

/// An operation as the document has it.
struct Operation {
    id: String,
    method: Method,
    /// Below `/api`, or at the root.
    path: String,
    is: Value,
}

impl Operation {
    fn takes(&self, place: &str, name: &str) -> bool {
        let parameters = self.is["parameters"].as_array().into_iter().flatten();
        parameters.into_iter().any(|one| one["in"] == place && (name.is_empty() || one["name"] == name))
    }

    fn is_secured(&self) -> bool {
        self.is["security"].as_array().is_some_and(|all| !all.is_empty())
    }

    fn has_body(&self) -> bool {
        self.is.get("requestBody").is_some()
    }

    /// The codes with which it refuses, but those of all operations and those that need another server.
    fn own_codes(&self) -> impl Iterator<Item = &str> {
        let codes = self.is["x-error-codes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap());
        codes.filter(|code| !UNTRIED.contains(code))
    }

    /// Does it.
    async fn send(&self, call: &Call) -> Answer {
        let mut path = self.path.clone();
        for (name, id) in &call.ids {
            path = path.replace(&format!("{{{name}}}"), id);
        }
        assert!(!path.contains('{'), "{} does not say which {path}", self.id);
        if !call.query.is_empty() {
            path = format!("{path}?{}", call.query);
        }
        match &call.raw {
            Some((content_type, body)) => {
                call.http.send_raw(self.method.clone(), &path, content_type, body.clone()).await
            }
            None => call.http.request(self.method.clone(), &path, call.body.clone()).await,
        }
    }

    /// The refusals that follow from what it takes, of a call that would be done.
    fn refusals(&self, scene: &Scene<'_>, good: &Call) -> Vec<Call> {
        let mut calls = Vec::new();
        if self.is_secured() {
            calls.push(Call { http: scene.anyone.clone(), ..good.clone() }.expect(401));
            calls.push(Call { http: scene.anyone.with_token("x"), ..good.clone() }.expect(401));
        }
        if self.has_body() {
            let raw =
                |content_type, body: &str| Call { raw: Some((content_type, body.into())), ..good.clone() };
            calls.push(raw("text/plain", "x").expect(415));
            calls.push(raw("application/json", "{").expect(400));
            calls.push(raw("application/json", r#"{"unheardOf":1}"#).expect(400));
            calls.push(raw("application/json", "[]").expect(400));
            calls.push(raw("application/json", &"[".repeat(1024 * 1024)).expect(413));
        }
        for name in good.ids.keys() {
            for id in [NOTHING, "x"] {
                calls.push(good.clone().id(name, id).expect(404));
            }
        }
        if self.takes("query", "") {
            calls.push(good.clone().query("unheardOf=1").expect(400));
        }
        if self.takes("query", "limit") {
            calls.push(good.clone().query("limit=0").expect(400));
            calls.push(good.clone().query("limit=201").expect(400));
        }
        calls
    }
}

fn count_requests(setup: Setup) -> Setup {
    let limits = [
        "MESSAGES_PER_SECOND",
        "LOGIN_PER_MINUTE",
        "REGISTRATION_PER_ADDRESS_PER_HOUR",
        "CONTACT_REQUESTS_PER_DAY",
    ];
    limits.iter().fold(setup, |setup, limit| setup.env(&format!("CURLEW_LIMITS_{limit}"), "100000"))
}

both_engines! {
    /// Requests are counted, and never too many, so that the headers which tell of it are looked at.
    async fn every_operation_answers_as_documented(server: with count_requests) {
        let document = Document::read(&server).await;
        let operations = document.operations();
        assert!(operations.len() > 30, "the document has its operations");
        let mut untried = Vec::new();
        for (number, operation) in operations.iter().enumerate() {
            let scene = Scene::new(&server, number).await;
            let calls = recipes::of(&operation.id, &scene).await;
            assert!(!calls.is_empty(), "{} has no recipe", operation.id);
            // Refused first: what is refused changes nothing.
            let refusals = operation.refusals(&scene, &calls[0]);
            let (mut answered, mut codes) = (BTreeSet::new(), BTreeSet::new());
            for call in refusals.iter().chain(&calls) {
                let answer = operation.send(call).await;
                document.check(operation, call, &answer);
                answered.insert(answer.status.to_string());
                codes.extend(answer.json_or_null()["code"].as_str().map(str::to_owned));
                if answer.status == 200 && operation.is["responses"].get("304").is_some() {
                    let http = call.http.that_knows(answer.header("etag"));
                    let call = Call { http, ..call.clone() }.expect(304);
                    document.check(operation, &call, &operation.send(&call).await);
                }
            }
            let documented = operation.is["responses"].as_object().unwrap().keys();
            let missed: Vec<_> = documented.filter(|status| status.starts_with('2') && !answered.contains(*status)).collect();
            untried.extend(missed.iter().map(|status| format!("{} {status}", operation.id)));
            let missed = operation.own_codes().filter(|code| !codes.contains(*code));
            untried.extend(missed.map(|code| format!("{} {code}", operation.id)));
        }
        assert!(untried.is_empty(), "documented, and by no call answered: {untried:#?}");
        assert!(!server.log().contains("panicked"), "{}", server.log());
    }
}

#[tokio::test]
async fn examples_are_as_their_schemas_say() {
    let server = TestServer::start(curlew_tests::Engine::Sqlite).await;
    Document::read(&server).await.check_examples();
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere_and_shows_every_operation() {
    let server = TestServer::start(curlew_tests::Engine::Sqlite).await;
    let document = Document::read(&server).await;
    for path in ["/docs", "/docs/"] {
        let page = server.anonymous().get(path).await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"), "{path}");
        assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
        for header in ["x-content-type-options", "x-frame-options", "referrer-policy"] {
            assert_ne!(page.header(header), "", "{header}");
        }
        for foreign in ["<script", "src=", "href=\"http", "url(", "@import", "<link"] {
            assert!(!page.text.contains(foreign), "{foreign}");
        }
        for operation in document.operations() {
            assert!(page.text.contains(&format!("<article id=\"{}\">", operation.id)), "{}", operation.id);
        }
    }
}

//! What an operator asks for, done by the services.

use crate::admin::{
    AdminError, AdminHandler, AdminReply, AdminRequest, DemoActor, DemoChat, DeviceToken, Endpoints,
    UserCreated, UserEntry, UserPage,
};
use curlew_domain::{
    Error, ErrorCode, Refusal,
    account::{Password, Registration, User, UserView, Username, parse_label},
    device::DeviceChoice,
    error::FieldError,
    page::PageRequest,
    secret::Secret,
    services::Services,
};

/// The device that `curlew demo` makes for each of the two.
const DEMO_DEVICE: &str = "demo";

/// Does what an operator asks for.
pub struct Operator {
    services: Services,
    /// Where the server listens; `None` when there is none.
    endpoints: Option<Endpoints>,
}

impl Operator {
    /// With the services of this process.
    pub fn new(services: Services, endpoints: Option<Endpoints>) -> Self {
        Self { services, endpoints }
    }

    async fn create_user(
        &self,
        username: &str,
        password: Secret<String>,
        display_name: Option<String>,
    ) -> Result<User, Error> {
        let username = parsed(Username::parse(username))?;
        let registration = Registration {
            password: parsed(Password::parse(password.expose().clone(), "password"))?,
            display_name: parsed(parse_label(
                display_name.as_deref().unwrap_or(username.as_str()),
                "displayName",
                1,
                64,
            ))?,
            username,
            email: None,
            phone: None,
            device: DeviceChoice::default(),
        };
        self.services.accounts.create_user(registration).await
    }

    async fn issue_token(&self, username: &str, device: DeviceChoice) -> Result<DeviceToken, Error> {
        let username = parsed(Username::parse(username))?;
        let (device, token) = self.services.accounts.issue_device_token(&username, device).await?;
        Ok(DeviceToken {
            user_id: device.user.to_string(),
            username: username.to_string(),
            device_id: device.id.to_string(),
            device_name: device.name,
            platform: device.platform,
            token,
        })
    }

    /// The user of that name, made if need be, with a password that follows from the server's secret.
    async fn demo_user(&self, name: &str) -> Result<(UserView, DemoActor), Error> {
        let username = parsed(Username::parse(name))?;
        let password = self.services.accounts.demo_password(&username);
        let user = match self.services.accounts.find_user_by_name(&username).await {
            Err(error) if error.code() == ErrorCode::NotFound => {
                let display_name = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
                self.create_user(name, password.clone(), Some(display_name)).await?.into()
            }
            found if self.services.accounts.password_matches(&username, &password).await? => found?,
            _ => {
                let detail =
                    format!("there is a user {name} whom `curlew demo` did not make; it leaves them alone");
                return Err(Error::refused(ErrorCode::UsernameTaken, detail));
            }
        };
        let device = parsed(DeviceChoice::parse(None, DEMO_DEVICE, "cli"))?;
        let (device, token) = self.services.accounts.reuse_device_token(&username, device).await?;
        let actor = DemoActor {
            user_id: user.id.to_string(),
            username: name.to_owned(),
            password,
            device_id: device.id.to_string(),
            token,
        };
        Ok((user, actor))
    }

    async fn demo(&self) -> Result<DemoChat, Error> {
        let (alice, alice_actor) = self.demo_user("alice").await?;
        let (bob, bob_actor) = self.demo_user("bob").await?;
        // Two who ask each other are contacts; again, nothing changes.
        self.services.contacts.request(alice.id, bob.id).await?;
        self.services.contacts.request(bob.id, alice.id).await?;
        let (chat, _) = self.services.chats.open_private(alice.id, bob.id).await?;
        Ok(DemoChat { alice: alice_actor, bob: bob_actor, chat_id: chat.id.to_string() })
    }
}

impl AdminHandler for Operator {
    async fn handle(&self, request: AdminRequest) -> Result<AdminReply, AdminError> {
        let reply = match request {
            AdminRequest::UsersCreate { username, password, display_name } => {
                self.create_user(&username, password, display_name).await.map(|user| {
                    AdminReply::UserCreated(UserCreated {
                        user_id: user.id.to_string(),
                        username: user.username.to_string(),
                        display_name: user.display_name,
                    })
                })
            }
            AdminRequest::UsersList { cursor, limit } => {
                match PageRequest::parse(Some(limit), cursor.as_deref()) {
                    Ok(page) => self.services.accounts.list_users(page).await.map(|page| {
                        let page = page.map(|user| UserEntry {
                            user_id: user.id.to_string(),
                            username: user.username.to_string(),
                            display_name: user.display_name,
                            created_at: user.created_at.to_string(),
                        });
                        AdminReply::Users(UserPage { items: page.items, next_cursor: page.next_cursor })
                    }),
                    Err(error) => Err(error),
                }
            }
            AdminRequest::DevicesToken { username, device_name, platform } => {
                let default = DeviceChoice::default();
                let choice = DeviceChoice::parse(
                    None,
                    device_name.as_deref().unwrap_or(&default.name),
                    platform.as_deref().unwrap_or(&default.platform),
                );
                match parsed(choice) {
                    Ok(choice) => self.issue_token(&username, choice).await.map(AdminReply::DeviceToken),
                    Err(error) => Err(error),
                }
            }
            AdminRequest::DevicesRevoke { username, device_name } => match parsed(Username::parse(&username))
            {
                Ok(username) => {
                    let revoked = self.services.accounts.revoke_device_tokens(&username, &device_name).await;
                    revoked.map(|count| AdminReply::TokensRevoked { count })
                }
                Err(error) => Err(error),
            },
            AdminRequest::Demo {} => {
                self.demo().await.map(|chat| AdminReply::Demo { chat, endpoints: self.endpoints.clone() })
            }
        };
        reply.map_err(|error| AdminError { code: error.code(), message: message(&error) })
    }
}

fn parsed<T>(outcome: Result<T, FieldError>) -> Result<T, Error> {
    outcome.map_err(|field| Refusal::invalid(vec![field]).into())
}

/// An operator is told the cause, unlike a client.
fn message(error: &Error) -> String {
    match error {
        Error::Refused(refusal) => refusal.detail.clone().into_owned(),
        Error::Unavailable(_) | Error::Internal(_) => error.to_string(),
    }
}

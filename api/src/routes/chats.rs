//! `/api/chats`: chats and their members. Changes of members answer the chat as it is then.

use crate::{
    ApiState,
    extract::{Authenticated, Json, PageQuery, Path, Query},
    fields::{Fields, REQUIRED},
    problem::Problem,
};
use axum::{
    Router,
    extract::State,
    http::StatusCode,
    routing::{delete, get, post},
};
use curlew_domain::{
    account::parse_label,
    chat::{ChatView, HistoryVisible, MemberView},
    ids::{ChatId, UserId},
    message::LocalId,
    page::Page,
    services::{Services, chats::GroupWish},
};
use serde::Deserialize;

pub fn routes() -> Router<ApiState> {
    Router::new()
        .route("/", post(create_chat).get(list_chats))
        .route("/{chatId}", get(get_chat))
        .route("/{chatId}/members", get(list_members).post(add_members))
        .route("/{chatId}/members/{userId}", delete(remove_member))
        .route("/{chatId}/leave", post(leave_chat))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateChatRequest {
    #[serde(rename = "type")]
    kind: ChatType,
    user_id: Option<String>,
    name: Option<String>,
    member_ids: Option<Vec<String>>,
    history_visible: Option<HistoryVisible>,
    local_id: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ChatType {
    Private,
    Group,
}

/// A chat to be made.
#[derive(Debug)]
enum ChatWish {
    Private(UserId),
    Group(GroupWish),
}

impl CreateChatRequest {
    fn parse(self) -> Result<ChatWish, Problem> {
        match self.kind {
            ChatType::Private => self.parse_private(),
            ChatType::Group => self.parse_group(),
        }
    }

    fn parse_private(self) -> Result<ChatWish, Problem> {
        let mut fields = Fields::default();
        let of_groups = [
            ("name", self.name.is_some()),
            ("memberIds", self.member_ids.is_some()),
            ("historyVisible", self.history_visible.is_some()),
            ("localId", self.local_id.is_some()),
        ];
        for (field, _) in of_groups.iter().filter(|(_, given)| *given) {
            fields.refuse(field, "unknown-field", "is a field of groups; a private chat has none such");
        }
        let peer = fields.required("userId", self.user_id).and_then(|id| fields.id("userId", &id));
        fields.finish(peer.map(ChatWish::Private))
    }

    fn parse_group(self) -> Result<ChatWish, Problem> {
        let mut fields = Fields::default();
        if self.user_id.is_some() {
            fields.refuse("userId", "unknown-field", "is a field of private chats; a group has memberIds");
        }
        let name =
            fields.required("name", self.name).and_then(|t| fields.keep(parse_label(&t, "name", 1, 100)));
        let members = fields.required("memberIds", self.member_ids).map(|ids| fields.ids("memberIds", &ids));
        let local_id = self.local_id.and_then(|t| fields.keep(LocalId::parse(&t)));
        let history_visible = self.history_visible.unwrap_or_default();
        let wish =
            name.zip(members).map(|(name, members)| GroupWish { name, members, history_visible, local_id });
        fields.finish(wish.map(ChatWish::Group))
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AddMembersRequest {
    /// Also understood by the name it has where a group is founded.
    #[serde(alias = "memberIds")]
    user_ids: Option<Vec<String>>,
}

impl AddMembersRequest {
    fn parse(self) -> Result<Vec<UserId>, Problem> {
        let mut fields = Fields::default();
        let users = fields.required("userIds", self.user_ids).map(|ids| fields.ids("userIds", &ids));
        if users.as_ref().is_some_and(Vec::is_empty) && fields.is_empty() {
            fields.refuse("userIds", REQUIRED, "must name somebody");
        }
        fields.finish(users)
    }
}

/// 201: the chat, made by this request. 200: it was there (the private chat with this user, the group of this `localId`).
async fn create_chat(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Json(request): Json<CreateChatRequest>,
) -> Result<(StatusCode, Json<ChatView>), Problem> {
    let (chat, created) = match request.parse()? {
        ChatWish::Private(peer) => services.chats.open_private(me.user, peer).await?,
        ChatWish::Group(wish) => services.chats.create_group(me.user, wish).await?,
    };
    Ok((super::created_if(created), Json(chat)))
}

/// 200: my chats, latest activity first.
async fn list_chats(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ChatView>>, Problem> {
    Ok(Json(services.chats.list(me.user, page.parse()?).await?))
}

/// 200: the chat; for former members too.
async fn get_chat(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(chat): Path<ChatId>,
) -> Result<Json<ChatView>, Problem> {
    Ok(Json(services.chats.find(me.user, chat).await?))
}

/// 200: active members, longest-standing first.
async fn list_members(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(chat): Path<ChatId>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<MemberView>>, Problem> {
    Ok(Json(services.chats.list_members(me.user, chat, page.parse()?).await?))
}

/// 200: the chat. Those who are in already change nothing.
async fn add_members(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(chat): Path<ChatId>,
    Json(request): Json<AddMembersRequest>,
) -> Result<Json<ChatView>, Problem> {
    services.chats.add_members(me.user, chat, request.parse()?).await?;
    Ok(Json(services.chats.find(me.user, chat).await?))
}

/// 200: the chat. Removing oneself is leaving.
async fn remove_member(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path((chat, user)): Path<(ChatId, UserId)>,
) -> Result<Json<ChatView>, Problem> {
    services.chats.remove_member(me.user, chat, user).await?;
    Ok(Json(services.chats.find(me.user, chat).await?))
}

/// 204. Again: changes nothing.
async fn leave_chat(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(chat): Path<ChatId>,
) -> Result<StatusCode, Problem> {
    services.chats.leave(me.user, chat).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ALICE: &str = "0192f0c1-0000-7000-8000-000000000001";

    fn create(body: Value) -> Result<ChatWish, Vec<String>> {
        let request: CreateChatRequest = serde_json::from_value(body).unwrap();
        request.parse().map_err(|problem| {
            problem.errors.into_iter().map(|e| format!("{} {}", e.field, e.code)).collect()
        })
    }

    #[test]
    fn a_private_chat_names_one_user_and_nothing_else() {
        assert!(matches!(create(json!({"type": "private", "userId": ALICE})), Ok(ChatWish::Private(_))));
        assert_eq!(create(json!({"type": "private"})).unwrap_err(), ["userId required"]);
        let both = json!({"type": "private", "userId": "alice", "name": "us", "historyVisible": "all"});
        assert_eq!(
            create(both).unwrap_err(),
            ["name unknown-field", "historyVisible unknown-field", "userId invalid"]
        );
    }

    #[test]
    fn a_group_names_itself_and_its_members() {
        let group = json!({"type": "group", "name": " us ", "memberIds": [ALICE], "localId": "1"});
        let Ok(ChatWish::Group(wish)) = create(group) else { panic!("a group was refused") };
        assert_eq!((wish.name.as_str(), wish.members.len()), ("us", 1));
        assert_eq!(wish.history_visible, HistoryVisible::Joined);
        let wrong = json!({"type": "group", "name": "", "memberIds": [ALICE, "x", "y"], "localId": "ø", "userId": ALICE});
        assert_eq!(
            create(wrong).unwrap_err(),
            [
                "userId unknown-field",
                "name length",
                "memberIds[1] invalid",
                "memberIds[2] invalid",
                "localId invalid"
            ]
        );
        assert_eq!(create(json!({"type": "group"})).unwrap_err(), ["name required", "memberIds required"]);
    }

    #[test]
    fn adding_nobody_is_a_mistake() {
        let add = |ids: Option<Vec<&str>>| {
            let user_ids = ids.map(|ids| ids.into_iter().map(Into::into).collect());
            AddMembersRequest { user_ids }.parse().map_err(|problem| problem.errors[0].field.to_string())
        };
        assert_eq!(add(Some(vec![ALICE])).unwrap().len(), 1);
        assert_eq!(add(Some(vec![])).unwrap_err(), "userIds");
        assert_eq!(add(None).unwrap_err(), "userIds");
        assert_eq!(add(Some(vec![ALICE, "x"])).unwrap_err(), "userIds[1]");
    }
}

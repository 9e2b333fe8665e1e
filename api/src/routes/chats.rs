//! `/api/chats`: chats and their members. Changes of members answer the chat as it is then.

use crate::{
    extract::{Authenticated, Json, PageQuery, Path, Query, nullable},
    fields::{Fields, REQUIRED},
    openapi::Routes,
    problem::Problem,
};
use axum::{extract::State, http::StatusCode};
use curlew_domain::{
    ErrorCode,
    account::{parse_about, parse_label},
    chat::{ChatSettings, ChatView, HistoryVisible, MemberView, Role},
    ids::{ChatId, UserId},
    message::LocalId,
    page::Page,
    ports::store::{ChatChange, SettingsChange},
    services::{Services, chats::GroupWish},
};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

pub fn routes() -> Routes {
    let all = Routes::of("chats").add(routes!(list_chats, create_chat));
    all.with_etags().merge(
        Routes::of("chats")
            .add(routes!(get_chat, update_chat))
            .add(routes!(list_members, add_members))
            .add(routes!(update_member, remove_member))
            .add(routes!(leave_chat))
            .add(routes!(update_settings)),
    )
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(examples(
    json!({"type": "private", "userId": "0192f0c1-7a10-7000-8000-000000000002"}),
    json!({"type": "group", "name": "Birders", "memberIds": ["0192f0c1-7a10-7000-8000-000000000002"], "localId": "group-1"}),
))]
struct CreateChatRequest {
    #[serde(rename = "type")]
    kind: ChatType,
    /// The other. Private chats only, and required there.
    #[schema(value_type = Option<UserId>)]
    user_id: Option<String>,
    /// 1 to 100 characters. Groups only, and required there.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// The others, as many as a group may have. Groups only, and required there.
    #[schema(value_type = Option<Vec<UserId>>)]
    member_ids: Option<Vec<String>>,
    /// What those who join later may read. Groups only.
    history_visible: Option<HistoryVisible>,
    /// The same again founds no second group. Groups only.
    #[schema(value_type = Option<LocalId>)]
    local_id: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
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

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AddMembersRequest {
    /// Also understood by the name it has where a group is founded.
    #[serde(alias = "memberIds")]
    #[schema(value_type = Vec<UserId>, min_items = 1)]
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

/// What is absent stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UpdateChatRequest {
    /// 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100, example = "Birders")]
    name: Option<String>,
    /// At most 1,000 characters; `null` takes it away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, max_length = 1000)]
    description: Option<Option<String>>,
    history_visible: Option<HistoryVisible>,
}

impl UpdateChatRequest {
    fn parse(self) -> Result<ChatChange, Problem> {
        let mut fields = Fields::default();
        let name = self.name.and_then(|text| fields.keep(parse_label(&text, "name", 1, 100)));
        let describe = |text: Option<String>| match text {
            Some(text) => fields.keep(parse_about(&text, "description", 1000)),
            None => None,
        };
        // What is empty is none.
        let description = self.description.map(describe).map(|text| text.filter(|text| !text.is_empty()));
        fields.finish(Some(ChatChange { name, description, history_visible: self.history_visible }))
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateMemberRequest {
    role: Role,
}

/// What is absent stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UpdateSettingsRequest {
    /// Not to be announced until then; `null` ends it.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, format = DateTime)]
    muted_until: Option<Option<String>>,
    /// Shown on top.
    #[schema(example = true)]
    pinned: Option<bool>,
    /// Shown apart.
    archived: Option<bool>,
}

impl UpdateSettingsRequest {
    fn parse(self) -> Result<SettingsChange, Problem> {
        let Self { muted_until, pinned, archived } = self;
        let mut fields = Fields::default();
        let until = |text: Option<String>| text.and_then(|text| fields.timestamp("mutedUntil", &text));
        let muted_until = muted_until.map(until);
        fields.finish(Some(SettingsChange { muted_until, pinned, archived }))
    }
}

/// Open a private chat, or found a group
///
/// A private chat is there once per pair, a group once per `localId` of its founder.
#[utoipa::path(
    post,
    path = "/",
    request_body = CreateChatRequest,
    responses(
        (status = 201, description = "The chat, made by this request.", body = ChatView),
        (status = 200, description = "The chat, which was there before.", body = ChatView),
    ),
    extensions(("x-error-codes" = json!([ErrorCode::NotFound, ErrorCode::Blocked, ErrorCode::NotContact, ErrorCode::GroupFull]))),
)]
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

/// List my chats
///
/// Latest activity first.
#[utoipa::path(
    get,
    path = "/",
    params(PageQuery),
    responses((status = 200, description = "A page of chats.", body = Page<ChatView>)),
)]
async fn list_chats(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ChatView>>, Problem> {
    Ok(Json(services.chats.list(me.user, page.parse()?).await?))
}

/// Read a chat
///
/// Former members can, too.
#[utoipa::path(
    get,
    path = "/{chatId}",
    responses((status = 200, description = "The chat.", body = ChatView)),
)]
async fn get_chat(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(chat): Path<ChatId>,
) -> Result<Json<ChatView>, Problem> {
    Ok(Json(services.chats.find(me.user, chat).await?))
}

/// Change a group
///
/// Admins and owners. What is absent stays as it is. Again: changes nothing.
#[utoipa::path(
    patch,
    path = "/{chatId}",
    request_body = UpdateChatRequest,
    responses((status = 200, description = "The group as it is now.", body = ChatView)),
    extensions(("x-error-codes" = json!([ErrorCode::Forbidden, ErrorCode::NotMember]))),
)]
async fn update_chat(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(chat): Path<ChatId>,
    Json(request): Json<UpdateChatRequest>,
) -> Result<Json<ChatView>, Problem> {
    Ok(Json(services.chats.update(me.user, chat, request.parse()?).await?))
}

/// Give a member of a group a role
///
/// Owners. Again: changes nothing.
#[utoipa::path(
    patch,
    path = "/{chatId}/members/{userId}",
    request_body = UpdateMemberRequest,
    responses((status = 200, description = "The chat as it is now.", body = ChatView)),
    extensions(("x-error-codes" = json!([ErrorCode::Forbidden, ErrorCode::NotMember]))),
)]
async fn update_member(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path((chat, user)): Path<(ChatId, UserId)>,
    Json(request): Json<UpdateMemberRequest>,
) -> Result<Json<ChatView>, Problem> {
    services.chats.set_role(me.user, chat, user, request.role).await?;
    Ok(Json(services.chats.find(me.user, chat).await?))
}

/// Change my own settings of a chat
///
/// What is absent stays as it is.
#[utoipa::path(
    patch,
    path = "/{chatId}/settings",
    request_body = UpdateSettingsRequest,
    responses((status = 200, description = "My settings as they are now.", body = ChatSettings)),
    extensions(("x-error-codes" = json!([ErrorCode::NotMember]))),
)]
async fn update_settings(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(chat): Path<ChatId>,
    Json(request): Json<UpdateSettingsRequest>,
) -> Result<Json<ChatSettings>, Problem> {
    Ok(Json(services.chats.update_settings(me.user, chat, request.parse()?).await?))
}

/// List the members of a chat
///
/// Longest-standing first.
#[utoipa::path(
    get,
    path = "/{chatId}/members",
    params(PageQuery),
    responses((status = 200, description = "A page of active members.", body = Page<MemberView>)),
)]
async fn list_members(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(chat): Path<ChatId>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<MemberView>>, Problem> {
    Ok(Json(services.chats.list_members(me.user, chat, page.parse()?).await?))
}

/// Add members to a group
///
/// Admins and owners. Those who are in already change nothing.
#[utoipa::path(
    post,
    path = "/{chatId}/members",
    request_body = AddMembersRequest,
    responses((status = 200, description = "The chat as it is now.", body = ChatView)),
    extensions(("x-error-codes" = json!([ErrorCode::Forbidden, ErrorCode::NotMember, ErrorCode::Blocked, ErrorCode::NotContact, ErrorCode::GroupFull]))),
)]
async fn add_members(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(chat): Path<ChatId>,
    Json(request): Json<AddMembersRequest>,
) -> Result<Json<ChatView>, Problem> {
    services.chats.add_members(me.user, chat, request.parse()?).await?;
    Ok(Json(services.chats.find(me.user, chat).await?))
}

/// Remove a member from a group
///
/// Admins and owners. Removing oneself is leaving.
#[utoipa::path(
    delete,
    path = "/{chatId}/members/{userId}",
    responses((status = 200, description = "The chat as it is now.", body = ChatView)),
    extensions(("x-error-codes" = json!([ErrorCode::Forbidden, ErrorCode::NotMember]))),
)]
async fn remove_member(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path((chat, user)): Path<(ChatId, UserId)>,
) -> Result<Json<ChatView>, Problem> {
    services.chats.remove_member(me.user, chat, user).await?;
    Ok(Json(services.chats.find(me.user, chat).await?))
}

/// Leave a group
///
/// Again: changes nothing.
#[utoipa::path(
    post,
    path = "/{chatId}/leave",
    responses((status = 204, description = "I am no member any more.")),
    extensions(("x-error-codes" = json!([ErrorCode::Forbidden]))),
)]
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

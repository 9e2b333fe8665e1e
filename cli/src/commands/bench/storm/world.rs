//! Who is in the storm: users with devices, contacts and private chats, made over REST.

use super::{
    super::{Account, Target, all},
    sender::Sent,
};
use anyhow::Context;
use serde_json::{Value, json};
use std::{collections::HashMap, sync::Arc};

/// Sessions per device that the server keeps.
const PER_DEVICE: u32 = 8;
/// Users who stay and send.
const SENDERS: u32 = 10;

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub sessions: u32,
    pub users: u32,
    /// Of each user.
    pub chats: u32,
}

/// A private chat, between users by their number; the senders come behind the users.
pub(super) struct Chat {
    pub id: String,
    pub between: [usize; 2],
    /// End of its log when the sessions subscribed, and now.
    pub beginning: u64,
    pub end: u64,
}

/// Somebody whose sessions drop and return.
pub(super) struct User {
    /// Each device with its sessions' number.
    pub devices: Vec<(Account, u32)>,
    /// By their ids: the place among the user's, and among all.
    pub chats: Arc<HashMap<String, (usize, usize)>>,
    pub sessions: u32,
}

pub(super) struct World {
    pub users: Vec<User>,
    pub senders: Vec<Arc<Account>>,
    pub chats: Vec<Chat>,
    accounts: Vec<Arc<Account>>,
}

impl Size {
    /// Chats of a user with those who send; the others are with users on either side of them.
    fn steady(self) -> u32 {
        2 - self.chats % 2
    }

    /// Who has a chat with whom.
    fn pairs(self) -> Vec<[usize; 2]> {
        let (users, ring) = (self.users, (self.chats - self.steady()) / 2);
        let mut pairs = Vec::new();
        for user in 0..users {
            pairs.extend((1..=ring).map(|far| [user, (user + far) % users]));
            pairs.extend((0..self.steady()).map(|n| [users + (user + n) % SENDERS, user]));
        }
        pairs.into_iter().map(|pair| pair.map(|user| user as usize)).collect()
    }

    fn sessions_of(self, user: u32) -> u32 {
        self.sessions / self.users + u32::from(user < self.sessions % self.users)
    }
}

impl World {
    pub async fn make(size: Size, target: &Target) -> anyhow::Result<Self> {
        let count = size.users + SENDERS;
        let registered = all("users", (0..count).collect(), {
            let target = target.clone();
            move |n| {
                let target = target.clone();
                async move {
                    let sessions = if n < size.users { size.sessions_of(n) } else { 0 };
                    register(&target, n, sessions).await
                }
            }
        });
        let (mut accounts, mut devices) = (Vec::new(), Vec::new());
        for of_user in registered.await? {
            accounts.push(Arc::new(of_user.0));
            devices.push(of_user.1);
        }
        let pairs = size.pairs();
        let chats = all("chats", pairs.clone(), {
            let (target, accounts) = (target.clone(), accounts.clone());
            move |[a, b]| {
                let (target, a, b) = (target.clone(), Arc::clone(&accounts[a]), Arc::clone(&accounts[b]));
                async move { open_chat(&target, &a, &b).await }
            }
        });
        let chats: Vec<Chat> = pairs
            .into_iter()
            .zip(chats.await?)
            .map(|(between, (id, end))| Chat { id, between, beginning: end, end })
            .collect();
        let mut of_users = vec![HashMap::new(); count as usize];
        for (n, chat) in chats.iter().enumerate() {
            for user in chat.between {
                let place = of_users[user].len();
                of_users[user].insert(chat.id.clone(), (place, n));
            }
        }
        let senders = accounts[size.users as usize..].to_vec();
        let users = devices
            .into_iter()
            .zip(of_users)
            .take(size.users as usize)
            .map(|(devices, chats)| User {
                sessions: devices.iter().map(|(_, sessions)| sessions).sum(),
                devices,
                chats: Arc::new(chats),
            })
            .collect();
        Ok(Self { users, senders, chats, accounts })
    }

    /// Sends so many messages into every chat.
    pub async fn send_missed(&mut self, each: u32, target: &Target) -> anyhow::Result<()> {
        let jobs: Vec<_> = self
            .chats
            .iter()
            .map(|chat| (chat.id.clone(), Arc::clone(&self.accounts[chat.between[0]])))
            .collect();
        let target = target.clone();
        let ends = all("chats written to", jobs, move |(chat, sender)| {
            let target = target.clone();
            async move {
                let mut end = None;
                for n in 0..each {
                    let body =
                        json!({ "type": "TEXT", "text": format!("message {n} of those that were missed") });
                    let path = format!("chats/{chat}/messages");
                    let message = target.post(&path, Some(&sender.access_token), &body).await?;
                    end = Some(number(&message, "seq")?);
                }
                Ok(end)
            }
        });
        for (chat, end) in self.chats.iter_mut().zip(ends.await?) {
            chat.end = end.unwrap_or(chat.end);
        }
        Ok(())
    }

    /// How often what is in the logs by now is delivered, all sessions together.
    pub fn deliveries(&self) -> u64 {
        self.chats.iter().map(|chat| (chat.end - chat.beginning) * self.sessions_in(chat)).sum()
    }

    /// Notes what was sent.
    pub fn enter(&mut self, sent: &Sent) {
        for (chat, end) in &sent.ends {
            self.chats[*chat].end = *end;
        }
    }

    fn sessions_in(&self, chat: &Chat) -> u64 {
        chat.between
            .iter()
            .filter_map(|user| self.users.get(*user))
            .map(|user| u64::from(user.sessions))
            .sum()
    }
}

/// A user and their devices.
async fn register(target: &Target, n: u32, sessions: u32) -> anyhow::Result<(Account, Vec<(Account, u32)>)> {
    let account = target.register(n).await?;
    let count = sessions.div_ceil(PER_DEVICE).max(sessions.min(2));
    let mut devices = Vec::new();
    for device in 0..count {
        let share = sessions / count + u32::from(device < sessions % count);
        devices.push((target.sign_in(n, &format!("device {device}")).await?, share));
    }
    Ok((account, devices))
}

/// Makes two users contacts; answers their chat and the end of its log.
async fn open_chat(target: &Target, a: &Account, b: &Account) -> anyhow::Result<(String, u64)> {
    for (asking, asked) in [(a, b), (b, a)] {
        let body = json!({ "userId": asked.user_id });
        target.post("contacts/request", Some(&asking.access_token), &body).await?;
    }
    let body = json!({ "type": "private", "userId": b.user_id });
    let chat = target.post("chats", Some(&a.access_token), &body).await?;
    Ok((chat["id"].as_str().context("a chat without id")?.to_owned(), number(&chat, "lastSeq")?))
}

fn number(answer: &Value, field: &str) -> anyhow::Result<u64> {
    answer[field].as_u64().with_context(|| format!("an answer without {field}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_so_many_chats_each_with_somebody_else() {
        for (users, chats) in [(1000, 20), (7, 5), (21, 20), (3, 1)] {
            let pairs = Size { sessions: users, users, chats }.pairs();
            for user in 0..users as usize {
                let mut peers: Vec<usize> =
                    pairs.iter().filter(|pair| pair.contains(&user)).map(|[a, b]| a + b - user).collect();
                assert_eq!(peers.len(), chats as usize);
                peers.sort_unstable();
                peers.dedup();
                assert_eq!(peers.len(), chats as usize);
                assert!(!peers.contains(&user));
            }
        }
    }
}

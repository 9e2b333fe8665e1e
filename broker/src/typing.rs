//! Who types in which chat. Nothing is stored; it ends by itself.

use crate::{connection::Edge, delivery::SharedEvent};
use curlew_domain::{
    event::{Event, EventBody},
    ids::{ChatId, UserId},
};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Who does not say so again types no more.
const EXPIRY: Duration = Duration::from_secs(6);
/// Least time between two events about one user in one chat.
const INTERVAL: Duration = Duration::from_secs(2);
/// Most people of one chat of whom it is told at once.
const MAX_TYPERS: usize = 5;
/// Most chats in which somebody types; of others it is not told.
const MAX_CHATS: usize = 16_384;
/// How often it is looked what has come to its end.
const TICK: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Typer {
    user: UserId,
    /// Until when they type; `None`: they have stopped.
    until: Option<Instant>,
    /// What was told last, and when.
    told: bool,
    told_at: Instant,
}

impl Typer {
    /// What is to be told now.
    fn news(&mut self, again: bool, now: Instant) -> Option<bool> {
        let typing = self.until.is_some();
        let due = (typing != self.told || again) && now >= self.told_at + INTERVAL;
        due.then(|| {
            (self.told, self.told_at) = (typing, now);
            typing
        })
    }
}

/// Who types.
#[derive(Debug, Default)]
pub struct Typing {
    chats: Mutex<HashMap<ChatId, Vec<Typer>>>,
    wake: Notify,
}

impl Typing {
    /// Somebody says that they type, or do not any more. Answers what the chat is to be told now, if anything.
    pub fn set(&self, chat: ChatId, user: UserId, typing: bool, now: Instant) -> Option<bool> {
        let mut chats = self.lock();
        let until = typing.then_some(now + EXPIRY);
        if let Some(typers) = chats.get_mut(&chat)
            && let Some(typer) = typers.iter_mut().find(|typer| typer.user == user)
        {
            typer.until = until;
            return typer.news(typing, now);
        }
        if !typing || (chats.len() >= MAX_CHATS && !chats.contains_key(&chat)) {
            return None;
        }
        let typers = chats.entry(chat).or_default();
        if typers.iter().filter(|typer| typer.told).count() >= MAX_TYPERS {
            return None;
        }
        typers.push(Typer { user, until, told: true, told_at: now });
        drop(chats);
        self.wake.notify_one();
        Some(true)
    }

    /// What has come to its end, and what could not be told before.
    fn look(&self, now: Instant) -> Vec<(ChatId, UserId, bool)> {
        let mut news = Vec::new();
        self.lock().retain(|chat, typers| {
            typers.retain_mut(|typer| {
                typer.until = typer.until.filter(|until| *until > now);
                news.extend(typer.news(false, now).map(|typing| (*chat, typer.user, typing)));
                // Remembered for as long as it keeps the next event back.
                typer.told || typer.until.is_some() || now < typer.told_at + INTERVAL
            });
            !typers.is_empty()
        });
        news
    }

    /// Tells who has stopped, until `stop`.
    pub async fn run(&self, edge: &Edge, stop: CancellationToken) {
        loop {
            let pause = async {
                if self.lock().is_empty() {
                    self.wake.notified().await;
                }
                tokio::time::sleep(TICK).await;
            };
            tokio::select! {
                () = pause => {}
                () = stop.cancelled() => return,
            }
            for (chat, user, typing) in self.look(Instant::now()) {
                tell(edge, chat, user, typing);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChatId, Vec<Typer>>> {
        self.chats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells those of the chat who are connected and have subscribed.
pub fn tell(edge: &Edge, chat: ChatId, user: UserId, typing: bool) {
    let body = EventBody::UserTyping { user_id: user, typing };
    let event = Event::live(edge.entropy.uuid(), edge.clock.now(), Some(chat), body);
    edge.registry.tell_typing(chat, user, &SharedEvent::new(event));
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const CHAT: u128 = 1;

    fn set(typing: &Typing, user: u128, on: bool, now: Instant) -> Option<bool> {
        typing.set(Uuid::from_u128(CHAT).into(), Uuid::from_u128(user).into(), on, now)
    }

    fn look(typing: &Typing, now: Instant) -> Vec<bool> {
        typing.look(now).into_iter().map(|(_, _, typing)| typing).collect()
    }

    #[test]
    fn it_starts_at_once_and_ends_by_itself() {
        let (typing, now) = (Typing::default(), Instant::now());
        assert_eq!(set(&typing, 1, true, now), Some(true));
        assert!(look(&typing, now + Duration::from_millis(5999)).is_empty());
        assert_eq!(look(&typing, now + Duration::from_secs(6)), [false]);
        assert!(look(&typing, now + Duration::from_secs(8)).is_empty());
        assert!(typing.lock().is_empty());
    }

    #[test]
    fn of_one_user_it_is_told_once_in_two_seconds() {
        let (typing, now) = (Typing::default(), Instant::now());
        let after = |ms| now + Duration::from_millis(ms);
        assert_eq!(set(&typing, 1, true, now), Some(true));
        for ms in [10, 500, 1900] {
            assert_eq!(set(&typing, 1, ms % 20 == 0, after(ms)), None);
        }
        assert_eq!(
            set(&typing, 1, true, after(2000)),
            Some(true),
            "told again, so that nobody takes it for over"
        );
        assert_eq!(set(&typing, 1, false, after(2100)), None);
        assert!(look(&typing, after(3900)).is_empty());
        assert_eq!(look(&typing, after(4000)), [false], "the end is told late, not never");
        assert_eq!(set(&typing, 1, true, after(4100)), None);
        assert_eq!(look(&typing, after(6000)), [true]);
    }

    #[test]
    fn of_five_in_one_chat_it_is_told() {
        let (typing, now) = (Typing::default(), Instant::now());
        let told: Vec<_> = (1..=6).map(|user| set(&typing, user, true, now)).collect();
        assert_eq!(told, [Some(true), Some(true), Some(true), Some(true), Some(true), None]);
        let later = now + INTERVAL;
        assert_eq!(set(&typing, 1, false, later), Some(false));
        assert_eq!(set(&typing, 6, true, later), Some(true));
    }

    #[test]
    fn who_has_not_begun_does_not_stop() {
        let typing = Typing::default();
        assert_eq!(set(&typing, 1, false, Instant::now()), None);
        assert!(typing.lock().is_empty());
    }
}

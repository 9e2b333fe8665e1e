//! Promise 5: you receive what you are entitled to, and nothing else.

mod logout;
mod members;
mod strangers;

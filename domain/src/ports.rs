//! What the domain needs from outside. `store` implements [`store`], the edge implements [`relay`].

pub mod relay;
pub mod store;

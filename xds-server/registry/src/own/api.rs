//! What can be asked of the registry, whoever asks and wherever the answer is kept.
//!
//! Both protocols end here: the token is looked at first, then the wish is passed to the store.

mod grpc;
mod http;
mod server;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

pub(super) use self::server::{bind, serve};
use super::keeper::{Command, Reply};
use super::model::{Guard, Key, Lease, Listing, Page, Receipt, Refusal, Registration, Shown};
use super::shared::Shared;
use super::tokens::{Access, Tokens};

/// Where registrations are kept.
#[derive(Clone, Debug)]
pub(super) enum Backend {
    Embedded(Arc<Desk>),
    Etcd(Arc<Shared>),
}

/// Where the keeper of the embedded store is found, while there is one: between two sessions there is a reason instead.
#[derive(Debug)]
pub(super) struct Desk(Mutex<Result<mpsc::Sender<Command>, String>>);

/// The calls; cloned for each of them.
#[derive(Clone, Debug)]
pub(super) struct Api {
    pub(super) backend: Backend,
    /// `None` when everybody may do everything.
    pub(super) tokens: Option<Arc<Tokens>>,
}

impl Api {
    async fn register(&self, token: Option<&str>, wish: Registration) -> Result<Receipt, Refusal> {
        self.may_change(token, &wish.key).await?;
        wish.check()?;
        match &self.backend {
            Backend::Embedded(desk) => desk.ask(|reply| Command::Register(wish, reply)).await,
            Backend::Etcd(shared) => shared.register(wish).await,
        }
    }

    async fn renew(&self, token: Option<&str>, key: Key, lease: Lease) -> Result<Receipt, Refusal> {
        self.may_change(token, &key).await?;
        match &self.backend {
            Backend::Embedded(desk) => desk.ask(|reply| Command::Renew(key, lease, reply)).await,
            Backend::Etcd(shared) => shared.renew(&key, lease).await,
        }
    }

    async fn drain(&self, token: Option<&str>, key: Key, guard: Guard, draining: bool) -> Result<Receipt, Refusal> {
        self.may_change(token, &key).await?;
        match &self.backend {
            Backend::Embedded(desk) => desk.ask(|reply| Command::Drain(key, guard, draining, reply)).await,
            Backend::Etcd(shared) => shared.drain(&key, guard, draining).await,
        }
    }

    async fn deregister(&self, token: Option<&str>, key: Key, guard: Guard) -> Result<bool, Refusal> {
        self.may_change(token, &key).await?;
        match &self.backend {
            Backend::Embedded(desk) => desk.ask(|reply| Command::Deregister(key, guard, reply)).await,
            Backend::Etcd(shared) => shared.deregister(&key, guard).await,
        }
    }

    async fn get(&self, token: Option<&str>, key: Key) -> Result<Shown, Refusal> {
        self.may(token, Access::Read).await?;
        match &self.backend {
            Backend::Embedded(desk) => desk.ask(|reply| Command::Get(key, reply)).await,
            Backend::Etcd(shared) => shared.get(&key).await,
        }
    }

    async fn list(&self, token: Option<&str>, listing: Listing) -> Result<Page, Refusal> {
        self.may(token, Access::Read).await?;
        match &self.backend {
            Backend::Embedded(desk) => desk.ask(|reply| Command::List(listing, reply)).await,
            Backend::Etcd(shared) => shared.list(&listing).await,
        }
    }

    async fn may_change(&self, token: Option<&str>, key: &Key) -> Result<(), Refusal> {
        self.may(token, Access::Change(key.service.as_str())).await
    }

    async fn may(&self, token: Option<&str>, access: Access<'_>) -> Result<(), Refusal> {
        match &self.tokens {
            Some(tokens) => tokens.check(token, access).await,
            None => Ok(()),
        }
    }
}

/// The token of a header `authorization: Bearer TOKEN`.
fn bearer(header: Option<&str>) -> Option<&str> {
    let (scheme, token) = header?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl Desk {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Err("the registry is starting".to_owned())))
    }

    pub(super) fn open(&self, keeper: mpsc::Sender<Command>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Ok(keeper);
    }

    pub(super) fn close(&self, why: &crate::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Err(format!("the store can't be used: {why}"));
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Refusal> {
        let keeper = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let keeper = keeper.map_err(Refusal::Unavailable)?;
        let lost = || Refusal::Unavailable("the store failed, and it is not known what became of this".to_owned());
        let (reply, answer) = oneshot::channel();
        keeper.send(command(reply)).await.map_err(|_| lost())?;
        answer.await.map_err(|_| lost())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_follows_bearer() {
        assert_eq!(bearer(Some("Bearer abc")), Some("abc"));
        assert_eq!(bearer(Some("bearer  abc ")), Some("abc"));
        for other in [None, Some(""), Some("abc"), Some("Basic abc"), Some("Bearer")] {
            assert_eq!(bearer(other), None, "{other:?}");
        }
    }
}

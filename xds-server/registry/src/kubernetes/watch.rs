//! The watch of one scope: one request after the other, each from where the one before ended, until there is a doubt.
//!
//! A watch that ends in its time is proof that its path is alive, so no request lasts longer than the silence that can be
//! borne. A request that ends in any other way ends the session.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::client::{Link, Question, Stream, is_too_busy, pause};
use super::listing::{Reached, is_back, nameless};
use super::slice::{Rules, Slice, decode};
use super::wire::{self, Fault, Line};
use crate::Error;

/// What a watch says.
#[derive(Debug)]
pub(super) enum Item {
    Is(Slice),
    Was(Slice),
    /// Everything up to this version has been told: a bookmark.
    Reached(String),
    /// The server asks to be left alone for a while, or no longer does.
    Busy(Option<String>),
}

/// Items, each with the place of its scope.
pub(super) type Items = mpsc::Sender<(usize, Item)>;

pub(super) struct Watch {
    pub(super) link: Link,
    pub(super) rules: Arc<Rules>,
    /// Whose items these are.
    pub(super) place: usize,
    pub(super) reached: Reached,
    pub(super) items: Items,
}

impl Watch {
    /// Follows until there is a doubt.
    pub(super) async fn follow(mut self) -> Result<Infallible, Error> {
        loop {
            let mut stream = self.open().await?;
            let mut heard = false;
            while let Some(line) = stream.next().await? {
                heard = true;
                self.take(&line).await?;
            }
            if !heard {
                self.prove().await?;
            }
            let version = self.reached.version.clone();
            self.say(Item::Reached(version)).await?;
        }
    }

    async fn open(&mut self) -> Result<Stream, Error> {
        let mut busy = 0;
        loop {
            match self.link.watch(&self.reached.scope, &self.reached.version).await {
                Ok(stream) => {
                    if busy > 0 {
                        self.say(Item::Busy(None)).await?;
                    }
                    return Ok(stream);
                }
                Err(Fault::Busy { after, reason }) if !is_too_busy(busy) => {
                    busy += 1;
                    self.say(Item::Busy(Some(reason))).await?;
                    sleep(pause(after)).await;
                }
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    async fn take(&mut self, line: &[u8]) -> Result<(), Error> {
        let item = match wire::line(line)? {
            Line::Is(object) => {
                let slice = decode(&self.rules, object).ok_or_else(nameless)?;
                self.advance(&slice.identity.version)?;
                Item::Is(slice)
            }
            Line::Was(object) => {
                let slice = decode(&self.rules, object).ok_or_else(nameless)?;
                self.advance(&slice.identity.version)?;
                Item::Was(slice)
            }
            Line::Bookmark(version) => {
                self.advance(&version)?;
                Item::Reached(version)
            }
            Line::Failed(fault) => return Err(fault.into()),
        };
        self.say(item).await
    }

    fn advance(&mut self, version: &str) -> Result<(), Error> {
        let reached = &mut self.reached.version;
        if is_back(reached, version) {
            return Err(Error::Resync(format!(
                "the resourceVersion went back from {reached} to {version}"
            )));
        }
        version.clone_into(reached);
        Ok(())
    }

    /// A watch from a version that the server has not reached is silent to its end, and so is one that the server has
    /// nothing to say about.
    async fn prove(&self) -> Result<(), Error> {
        let question = Question {
            metadata_only: true,
            limit: Some(1),
            ..Question::default()
        };
        let body = self.link.page(&self.reached.scope, &question, &|| {}).await?;
        let now = wire::page(&body)?.version;
        if is_back(&self.reached.version, &now) {
            return Err(Error::Resync(format!(
                "the resourceVersion went back from {} to {now}",
                self.reached.version
            )));
        }
        Ok(())
    }

    async fn say(&self, item: Item) -> Result<(), Error> {
        // The session reads as long as it lives, and this task does not outlive it.
        let gone = |_| Error::Closed;
        self.items.send((self.place, item)).await.map_err(gone)
    }
}

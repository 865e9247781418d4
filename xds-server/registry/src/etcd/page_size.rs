//! How many keys a page has.
//!
//! The configured number, until an answer was too large for one message: then half of it, and half of that, for as
//! long as the process lives. A listing that can't be taken in at all would fail for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::config::Config;
use super::errors::Fault;

/// Shared by all sessions of a source.
#[derive(Clone, Debug)]
pub(super) struct PageSize {
    prefix: Arc<str>,
    configured: u32,
    now: Arc<AtomicU32>,
}

impl PageSize {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            prefix: config.prefix.as_str().into(),
            configured: config.page_size,
            now: Arc::new(AtomicU32::new(config.page_size)),
        }
    }

    /// Asks for a page, and for a smaller one while the answer is too large.
    pub(super) async fn fitting<T, F>(&self, mut ask: impl FnMut(u32) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        loop {
            let keys = self.get();
            match ask(keys).await {
                Err(Fault::TooLarge(reason)) if keys > 1 => self.halve(keys, &reason),
                outcome => return outcome,
            }
        }
    }

    fn get(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    fn halve(&self, keys: u32, reason: &str) {
        let page_size = keys / 2;
        self.now.store(page_size, Ordering::Relaxed);
        let prefix = &*self.prefix;
        if keys == self.configured {
            tracing::warn!(prefix, page_size, reason, "a page was too large, pages become smaller");
        } else {
            tracing::debug!(prefix, page_size, reason, "a page was still too large");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    /// What is asked for while answers of more than `most` keys are too large, and how it ends.
    async fn asked(size: &PageSize, most: u32) -> (Vec<u32>, Result<u32, Fault>) {
        let mut asked = Vec::new();
        let outcome = size.fitting(|keys| {
            asked.push(keys);
            std::future::ready(if keys > most {
                Err(Fault::TooLarge("found 70000000 bytes".to_owned()))
            } else {
                Ok(keys)
            })
        });
        let outcome = outcome.await;
        (asked, outcome)
    }

    #[tokio::test]
    async fn a_page_that_is_too_large_is_asked_for_in_halves_and_stays_small() {
        let size = PageSize::new(&Config::new(Vec::new(), "/"));
        let (keys, page) = asked(&size, 400).await;
        assert_eq!((keys, page.unwrap()), (vec![2000, 1000, 500, 250], 250));
        let later = size.clone();
        assert_eq!(asked(&later, 400).await.0, [250]);
    }

    #[tokio::test]
    async fn one_record_that_is_too_large_is_an_error_that_says_so() {
        let size = PageSize::new(&Config {
            page_size: 5,
            ..Config::new(Vec::new(), "/")
        });
        let (keys, page) = asked(&size, 0).await;
        assert_eq!(keys, [5, 2, 1]);
        let error = Error::from(page.unwrap_err());
        assert_eq!(
            error.to_string(),
            "an answer is larger than the decode limit: found 70000000 bytes"
        );
        assert!(matches!(error, Error::Unavailable(_)));
        assert_eq!(asked(&size, 0).await.0, [1]);
    }
}

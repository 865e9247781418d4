//! Waking one task from anywhere, for less than a channel costs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// Rung by many, heard by one. However often it is rung before it is heard, it is heard once.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    sleeper: AtomicWaker,
}

impl Bell {
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.sleeper.wake();
        }
    }

    /// Ready when it was rung since the last time.
    pub(crate) fn poll_rung(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.was_rung() {
            self.sleeper.register(cx.waker());
            // It may have been rung before there was somebody to wake.
            if !self.was_rung() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    fn was_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire) && self.rung.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Waker;

    use super::*;

    #[tokio::test]
    async fn it_is_heard_once_and_nobody_sleeps_through_it() {
        let bell = Arc::new(Bell::default());
        bell.ring();
        bell.ring();
        let heard = || bell.poll_rung(&Context::from_waker(Waker::noop())).is_ready();
        assert_eq!([heard(), heard()], [true, false]);
        let sleeper = bell.clone();
        let hearing = tokio::spawn(async move { poll_fn(|cx| sleeper.poll_rung(cx)).await });
        tokio::task::yield_now().await;
        bell.ring();
        hearing.await.unwrap();
    }
}

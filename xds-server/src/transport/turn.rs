//! Parts of one task that wake each other without a turn of the scheduler.
//!
//! HTTP/2 wakes a stream when something for it was read, and a stream wakes HTTP/2 when it has written. As tasks, or as
//! futures that share their task's waker, each of these is another turn for everybody; here it is the next round for the
//! one part that is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Rounds before others get their turn: a part that is due whenever it is asked must not keep them out.
const ROUNDS: usize = 16;

/// The task that the parts are of.
#[derive(Debug, Default)]
struct Task {
    /// A round is under way, which will see what becomes due.
    at_work: AtomicBool,
    waker: AtomicWaker,
}

#[derive(Debug)]
struct Signal {
    due: AtomicBool,
    task: Arc<Task>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Either this sees that no round is under way, or the end of the round sees that this is due: both order what they
        // write before what they read.
        if !self.due.swap(true, Ordering::SeqCst) && !self.task.at_work.load(Ordering::SeqCst) {
            self.task.waker.wake();
        }
    }
}

/// One part: it is due at first, and whenever the waker it was polled with is woken.
#[derive(Debug)]
pub(super) struct Part {
    signal: Arc<Signal>,
    waker: Waker,
}

impl Part {
    /// Whether it is due; it is not any more.
    pub(super) fn is_due(&self) -> bool {
        self.signal.due.load(Ordering::Relaxed) && self.signal.due.swap(false, Ordering::SeqCst)
    }

    pub(super) fn make_due(&self) {
        self.signal.due.store(true, Ordering::SeqCst);
    }

    /// What it has to be polled with.
    pub(super) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }
}

/// All parts of a task.
#[derive(Debug)]
pub(super) struct Turn<const N: usize> {
    task: Arc<Task>,
    signals: [Arc<Signal>; N],
}

impl<const N: usize> Turn<N> {
    pub(super) fn new() -> (Self, [Part; N]) {
        let task = Arc::<Task>::default();
        let signals = [(); N].map(|()| {
            Arc::new(Signal {
                due: AtomicBool::new(true),
                task: task.clone(),
            })
        });
        let parts = signals.clone().map(|signal| Part {
            waker: Waker::from(signal.clone()),
            signal,
        });
        (Self { task, signals }, parts)
    }

    /// Makes rounds while a part is due, until one has a result.
    pub(super) fn rounds<T>(&self, cx: &Context<'_>, mut round: impl FnMut() -> Option<T>) -> Option<T> {
        self.task.waker.register(cx.waker());
        for _ in 0..ROUNDS {
            self.task.at_work.store(true, Ordering::SeqCst);
            let result = round();
            self.task.at_work.store(false, Ordering::SeqCst);
            if result.is_some() || !self.is_due() {
                return result;
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    fn is_due(&self) -> bool {
        self.signals.iter().any(|signal| signal.due.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Debug, Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn parts_wake_each_other_in_the_same_turn_and_the_task_from_outside() {
        let scheduler = Arc::<Count>::default();
        let waker = Waker::from(scheduler.clone());
        let cx = Context::from_waker(&waker);
        let (turn, [one, two]) = Turn::new();
        let mut polled = Vec::new();
        let mut once = true;
        let rest = turn.rounds(&cx, || -> Option<()> {
            if one.is_due() {
                polled.push("one");
            }
            if two.is_due() {
                polled.push("two");
                if std::mem::take(&mut once) {
                    one.context().waker().wake_by_ref();
                }
            }
            None
        });
        assert_eq!((rest, polled), (None, vec!["one", "two", "one"]));
        assert_eq!(scheduler.0.load(Ordering::SeqCst), 0, "nobody outside was needed");
        two.context().waker().wake_by_ref();
        two.context().waker().wake_by_ref();
        assert_eq!(scheduler.0.load(Ordering::SeqCst), 1, "from outside it is woken, once");
        assert!(two.is_due() && !one.is_due());
    }

    #[test]
    fn who_is_always_due_lets_others_have_their_turn() {
        let scheduler = Arc::<Count>::default();
        let waker = Waker::from(scheduler.clone());
        let (turn, [part]) = Turn::new();
        let mut rounds = 0;
        let rest = turn.rounds(&Context::from_waker(&waker), || -> Option<()> {
            rounds += 1;
            part.make_due();
            None
        });
        assert_eq!((rest, rounds), (None, ROUNDS));
        assert_eq!(scheduler.0.load(Ordering::SeqCst), 1);
    }
}

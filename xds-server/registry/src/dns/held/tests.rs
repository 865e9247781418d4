//! When a record that is not answered any more has gone.

use std::net::Ipv4Addr;

use super::*;

const PACE: Pace = Pace {
    min_ttl: Duration::from_secs(1),
    max_ttl: Duration::from_mins(5),
    retry: Duration::from_secs(5),
    window: Duration::ZERO,
};

/// A question under test, and the time.
struct Case {
    held: Held,
    pace: Pace,
    begin: Instant,
    now: Instant,
}

impl Case {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            held: Held::default(),
            pace: PACE,
            begin: now,
            now,
        }
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    /// An answer with these addresses, that lives for `ttl` seconds.
    fn says(&mut self, last: &[u8], ttl: u64) -> &mut Self {
        self.hears(answer(last, Some(ttl), true))
    }

    fn hears(&mut self, answer: Answer) -> &mut Self {
        self.held.hear(&Ok(answer), &self.pace, self.now);
        let ripe = self.held.ripe(&self.pace, self.now);
        self.held.release(&ripe, self.now);
        self
    }

    fn fails(&mut self, reason: &str) -> &mut Self {
        let (reason, spoke) = (reason.to_owned(), true);
        self.held.hear(&Err(Failure { reason, spoke }), &self.pace, self.now);
        self
    }

    #[track_caller]
    fn holds(&mut self, last: &[u8]) -> &mut Self {
        let held: Vec<Item> = self.held.items().map(|(item, _)| item.clone()).collect();
        let expected: Vec<Item> = last.iter().map(|last| item(*last)).collect();
        assert_eq!(held, expected, "after {:?}", self.now - self.begin);
        self
    }

    #[track_caller]
    fn is_due_in(&mut self, millis: u64) -> &mut Self {
        let due = self.held.due(&self.pace, self.now).saturating_duration_since(self.now);
        assert_eq!(due, Duration::from_millis(millis), "after {:?}", self.now - self.begin);
        self
    }
}

fn item(last: u8) -> Item {
    Item::Address(Ipv4Addr::new(10, 0, 0, last).into())
}

fn answer(last: &[u8], ttl: Option<u64>, authoritative: bool) -> Answer {
    let items: Items = last.iter().map(|last| (item(*last), Rank::default())).collect();
    let said = if items.is_empty() {
        Said::Nothing { name_exists: false }
    } else {
        Said::Items(items)
    };
    Answer {
        said,
        owner: Name::root(),
        ttl: ttl.map(Duration::from_secs),
        zone: None,
        authoritative,
    }
}

#[tokio::test]
async fn what_is_answered_is_there_at_once() {
    Case::new()
        .says(&[1], 30)
        .holds(&[1])
        .after(1)
        .says(&[1, 2], 30)
        .holds(&[1, 2]);
}

#[tokio::test]
async fn a_record_goes_when_a_second_look_lacks_it() {
    let mut case = Case::new();
    case.says(&[1, 2], 30)
        .is_due_in(30_000)
        .after(30)
        .says(&[1], 30)
        .holds(&[1, 2])
        .is_due_in(1_000);
    case.after(1).says(&[1], 30).holds(&[1]).is_due_in(30_000);
}

#[tokio::test]
async fn a_record_that_comes_back_was_never_gone() {
    let mut case = Case::new();
    case.says(&[1, 2], 30)
        .after(30)
        .says(&[1], 30)
        .after(1)
        .says(&[1, 2], 30)
        .holds(&[1, 2])
        .is_due_in(30_000);
    assert!(!case.held.rotates(), "nothing else was missing");
    case.after(30).says(&[1], 30).holds(&[1, 2]);
}

#[tokio::test]
async fn an_absence_is_confirmed_like_a_missing_record() {
    let mut case = Case::new();
    case.says(&[1, 2], 30)
        .after(30)
        .says(&[], 600)
        .holds(&[1, 2])
        .is_due_in(1_000);
    case.after(1).says(&[], 600).holds(&[]).is_due_in(30_000);
    assert!(case.held.says_nothing() && case.held.is_known());
}

#[tokio::test]
async fn the_same_answer_out_of_a_cache_is_no_second_look() {
    let mut case = Case::new();
    let cached = |ttl| answer(&[], Some(ttl), false);
    case.says(&[1], 30).after(30).hears(cached(20)).is_due_in(20_000);
    case.after(10).hears(cached(10)).holds(&[1]).is_due_in(10_000);
    case.after(10).hears(cached(20)).holds(&[]);
    // Asked through a forwarder, the first answer is that of the authority, and the second its copy.
    let mut case = Case::new();
    case.says(&[1], 30).after(30).says(&[], 20).is_due_in(1_000);
    case.after(1)
        .hears(cached(19))
        .holds(&[1])
        .is_due_in(19_000)
        .after(19)
        .hears(cached(20))
        .holds(&[]);
}

#[tokio::test]
async fn failures_keep_everything_for_ever() {
    let mut case = Case::new();
    case.says(&[1, 2], 30).after(30);
    for _ in 0..1000 {
        case.fails("SERVFAIL").holds(&[1, 2]).is_due_in(5_000).after(5);
    }
    let failing = case.held.failing().unwrap();
    assert_eq!(
        (failing.reason.as_str(), failing.since),
        ("SERVFAIL", case.begin + Duration::from_secs(30))
    );
    case.says(&[1], 30).holds(&[1, 2]);
    assert!(case.held.failing().is_none());
}

#[tokio::test]
async fn a_failure_between_two_looks_is_no_look() {
    let mut case = Case::new();
    case.says(&[1, 2], 30)
        .after(30)
        .says(&[1], 30)
        .after(1)
        .fails("SERVFAIL")
        .holds(&[1, 2])
        .after(5)
        .says(&[1], 30)
        .holds(&[1]);
}

#[tokio::test]
async fn lifetimes_have_a_floor_and_a_ceiling() {
    let mut case = Case::new();
    case.says(&[1], 0)
        .is_due_in(1_000)
        .after(1)
        .says(&[1], 100_000)
        .is_due_in(300_000);
    case.hears(answer(&[1], None, true)).is_due_in(5_000);
    let mut absent = Case::new();
    absent.says(&[], 3600).is_due_in(30_000).says(&[], 0).is_due_in(1_000);
    absent.hears(answer(&[], None, true)).is_due_in(5_000);
}

#[tokio::test]
async fn parts_that_take_turns_add_up() {
    let mut case = Case::new();
    let parts: [[u8; 3]; 4] = [[1, 2, 3], [2, 3, 4], [1, 3, 4], [1, 2, 4]];
    for part in parts.iter().cycle().take(6) {
        case.says(part, 10).after(10);
    }
    assert!(case.held.rotates());
    for part in parts.iter().cycle().take(200) {
        case.says(part, 10).after(10).holds(&[1, 2, 3, 4]);
    }
    // What is in no part any more goes, at the latest after twice the longest absence of a part.
    case.says(&[1, 2, 3], 10).is_due_in(10_000);
    for _ in 0..8 {
        case.after(10).says(&[1, 2, 3], 10);
    }
    case.holds(&[1, 2, 3]);
    assert!(!case.held.rotates(), "nothing came back for a whole window");
}

#[tokio::test]
async fn parts_without_a_common_record_are_found_out_when_they_return() {
    let mut case = Case::new();
    let parts = [[1, 2], [3, 4], [5, 6]];
    for part in parts.iter().cycle().take(6) {
        case.says(part, 10).after(10);
    }
    assert!(case.held.rotates());
    for part in parts.iter().cycle().take(30) {
        case.says(part, 10).after(10);
    }
    case.holds(&[1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_random_part_of_a_whole_stops_flapping_soon() {
    let mut case = Case::new();
    let mut state = 7_u64;
    let mut draw = || {
        let mut part = BTreeSet::new();
        while part.len() < 3 {
            // A generator as good as the purpose needs.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            part.insert((state >> 33) as u8 % 8);
        }
        part.into_iter().collect::<Vec<u8>>()
    };
    let mut flaps = 0;
    for turn in 0..2000 {
        let before = case.held.items().count();
        case.says(&draw(), 5).after(5);
        if turn > 100 && case.held.items().count() < before {
            flaps += 1;
        }
    }
    assert!(flaps <= 3, "{flaps}");
    case.holds(&[0, 1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn instances_that_restart_one_after_the_other_are_no_parts() {
    let mut case = Case::new();
    for down in [0, 1, 2, 3, 0, 1] {
        let up: Vec<u8> = (0..4).filter(|n| *n != down).collect();
        case.says(&[0, 1, 2, 3], 10)
            .after(10)
            .says(&up, 10)
            .after(1)
            .says(&up, 10)
            .holds(&up)
            .after(10);
    }
    assert!(!case.held.rotates());
}

#[tokio::test]
async fn a_replacement_of_all_records_is_no_rotation() {
    let mut case = Case::new();
    case.says(&[1, 2], 10)
        .after(10)
        .says(&[3, 4], 10)
        .holds(&[1, 2, 3, 4])
        .after(1)
        .says(&[3, 4], 10)
        .holds(&[3, 4]);
    assert!(!case.held.rotates());
}

#[tokio::test]
async fn a_configured_window_holds_whatever_is_missing_but_no_absence() {
    let mut case = Case::new();
    case.pace.window = Duration::from_secs(60);
    case.says(&[1, 2], 10).after(10).says(&[1], 10).is_due_in(10_000);
    for _ in 0..5 {
        case.after(10).says(&[1], 10).holds(&[1, 2]);
    }
    case.after(10).says(&[1], 10).holds(&[1]);
    case.after(10)
        .says(&[], 10)
        .is_due_in(1_000)
        .after(1)
        .says(&[], 10)
        .holds(&[]);
}

#[tokio::test]
async fn a_text_replaces_the_former_one() {
    let text = |text: &str| Item::Text([text.as_bytes().into()].into());
    let says = |item: Item| Answer {
        said: Said::Items(Items::from([(item, Rank::default())])),
        ..answer(&[], Some(10), true)
    };
    let mut case = Case::new();
    case.hears(says(text("v=1"))).after(10).hears(says(text("v=2")));
    let held: Vec<Item> = case.held.items().map(|(item, _)| item.clone()).collect();
    assert_eq!(held, [text("v=2")]);
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let mut case = Case::new();
    for turn in 0..40_u32 {
        let items = (0..50).map(|n| (Item::Address(Ipv4Addr::from(turn * 50 + n).into()), Rank::default()));
        let said = Said::Items(items.collect());
        let answer = Answer {
            said,
            ..answer(&[], Some(10), true)
        };
        case.after(10).hears(answer.clone()).after(10).hears(answer);
    }
    assert_eq!(case.held.items().count(), 50);
    assert_eq!(case.held.gone.len(), MAX_REMEMBERED);
}

//! What to make of the listing that begins a session.
//!
//! What it lists is believed. What it lacks is believed when a delta told of the removal or the peer proves that it has
//! been there; else the other peers are asked, and the one that knows more is listed instead. When nobody can tell, the
//! catalog is told so, and keeps what may have been lost.

use std::collections::BTreeSet;
use std::time::SystemTime;

use leadsman_core::model::Evidence;

use super::client::{Full, Link};
use super::config::Config;
use super::session::{Known, Reading, part, told, unexplained};
use super::trust::{has_been_there, is_warm};
use super::wire::{Id, Record};
use crate::{Error, EventSender};

/// Peers asked for a second opinion; each may take its time to answer.
const MAX_WITNESSES: usize = 4;

pub(super) enum Judgement {
    Believed(Evidence),
    /// Another peer knows more, or may, and the next session should list that one.
    Doubted(String),
}

pub(super) async fn judge(
    config: &Config,
    peer: usize,
    reading: &Reading,
    known: &Known,
    events: &EventSender,
) -> Judgement {
    let delta = reading.delta.as_ref().map_or(&[][..], |delta| &delta.records);
    let Full { applications, date } = &reading.full;
    let listed = &applications.records;
    let missing = unexplained(&known.records, listed, delta);
    let proved = match known.confirmed {
        Some(confirmed) => missing == 0 || has_been_there(listed, *date, confirmed, peer, SystemTime::now()),
        None => is_warm(listed, *date),
    };
    // A single peer's first word is all there is; the catalog doubts a first listing that is empty by itself.
    if proved || (known.confirmed.is_none() && config.endpoints.len() < 2) {
        return Judgement::Believed(Evidence::Complete);
    }
    let (mut asked, mut answered) = (0, 0);
    // After a round of doubts the peers differ for good, and waiting for one of them to know everything would take for
    // ever.
    let others = if known.doubts < config.endpoints.len() {
        others(config, peer)
    } else {
        Vec::new()
    };
    for other in others {
        asked += 1;
        let full = witness(config, other).await;
        events.syncing();
        let Ok(full) = full else { continue };
        answered += 1;
        let theirs = &full.applications.records;
        let more = lacking(listed, delta, theirs);
        if more > 0 {
            let url = config.endpoints.get(other).map_or("", String::as_str);
            return Judgement::Doubted(format!(
                "it lists {} instances and lacks {more} that {url} lists: it may have just started",
                listed.len()
            ));
        }
        let there = |confirmed| has_been_there(theirs, full.date, confirmed, other, SystemTime::now());
        if known.confirmed.is_some_and(there) {
            return Judgement::Believed(Evidence::Complete);
        }
    }
    if known.confirmed.is_some() && asked > 0 && answered == 0 {
        return Judgement::Doubted(format!(
            "{missing} instances are gone without a word, and no other peer answers"
        ));
    }
    Judgement::Believed(match known.confirmed {
        None if answered > 0 => Evidence::Complete,
        None => part(),
        Some(_) => Evidence::NewEpoch {
            why: format!(
                "{missing} instances are gone without a word, and no peer has been there since they were seen"
            ),
        },
    })
}

/// The other peers, those after this one first.
fn others(config: &Config, peer: usize) -> Vec<usize> {
    let count = config.endpoints.len();
    let order = (1..count).filter_map(|step| (peer + step).checked_rem(count));
    order.take(MAX_WITNESSES).collect()
}

async fn witness(config: &Config, peer: usize) -> Result<Full, Error> {
    let url = config.endpoints.get(peer).map_or("", String::as_str);
    let full = Link::open(config, url).await?.full().await;
    match full {
        Ok(full) if full.applications.adds_up() => Ok(full),
        Ok(_) => Err(Error::Unavailable("the listing does not add up".to_owned())),
        Err(error) => {
            tracing::debug!(peer = url, %error, "no second opinion");
            Err(error)
        }
    }
}

/// How many instances `theirs` lists that `listed` does not, other than those that the delta tells of.
fn lacking(listed: &[Record], delta: &[Record], theirs: &[Record]) -> usize {
    let known: BTreeSet<&Id> = listed.iter().map(|record| &record.id).chain(told(delta)).collect();
    theirs
        .iter()
        .filter(|record| record.named && !known.contains(&record.id))
        .count()
}

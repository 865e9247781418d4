//! Questions to bytes, and bytes to answers. Pure.
//!
//! An answer is definite or it is none: what is refused, failed, referred elsewhere, cut short or contradicts itself never
//! becomes an absence.

use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::question::{Answer, Item, Items, Kind, Question, Rank, Said, Zone};

/// The largest answer that is asked for over UDP: what passes every path unbroken.
const UDP_PAYLOAD: u16 = 1232;

/// Aliases in a row: more than anybody means, fewer than a loop.
const MAX_ALIASES: usize = 8;

/// Strings of a text that are read: more than there is metadata for.
const MAX_STRINGS: usize = 64;

/// What a server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Definite(Box<Answer>),
    /// It did not fit; TCP has room.
    Truncated,
    /// An alias of a name that this server leaves to others: that one is to be asked for.
    Alias {
        name: Name,
        ttl: Duration,
    },
    /// The server answered, and the answer is none.
    Useless(String),
    /// An answer to somebody else, or no answer at all.
    Foreign,
}

/// A random id, which a forger would have to guess, and the bytes of a question; `None` for a name that has none, which
/// no parsed name is.
pub(super) fn encode(question: &Question) -> Option<(u16, Vec<u8>)> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(question.name.clone(), record_type(question.kind)));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD);
    message.set_edns(edns);
    Some((message.metadata.id, message.to_vec().ok()?))
}

/// Reads what came for a question.
pub(super) fn decode(question: &Question, id: u16, bytes: &[u8]) -> Reply {
    if bytes.first_chunk::<2>() != Some(&id.to_be_bytes()) {
        return Reply::Foreign;
    }
    let message = match Message::from_vec(bytes) {
        Ok(message) => message,
        Err(error) => return Reply::Useless(format!("an answer that can't be read: {error}")),
    };
    if message.metadata.message_type != MessageType::Response || message.metadata.op_code != OpCode::Query {
        return Reply::Foreign;
    }
    let same = |query: &Query| {
        query.name() == &question.name
            && query.query_type() == record_type(question.kind)
            && query.query_class() == DNSClass::IN
    };
    // Servers that could not read a question may leave it out of their refusal.
    let bare_refusal = message.queries.is_empty() && message.metadata.response_code != ResponseCode::NoError;
    let answered = message.queries.len() == 1 && message.queries.iter().all(same);
    if !answered && !bare_refusal {
        return Reply::Foreign;
    }
    let code = message.metadata.response_code;
    if code == ResponseCode::NoError || (code == ResponseCode::NXDomain && answered) {
        read(question, &message)
    } else {
        Reply::Useless(refusal(code))
    }
}

fn read(question: &Question, message: &Message) -> Reply {
    if message.metadata.truncation {
        return Reply::Truncated;
    }
    let chain = Chain::follow(question, message);
    let missing = message.metadata.response_code == ResponseCode::NXDomain;
    let zone = zone(&chain.owner, message);
    let definite = |said, ttl, zone| {
        Reply::Definite(Box::new(Answer {
            said,
            owner: chain.owner.clone(),
            ttl,
            zone,
            authoritative: message.metadata.authoritative,
        }))
    };
    if let Some((items, ttl)) = records(question.kind, &chain.owner, message) {
        if missing {
            return Reply::Useless("an answer that denies the name and lists its records".to_owned());
        }
        let zone = zone.filter(|_| question.kind == Kind::Soa).map(|(zone, _)| zone);
        return definite(Said::Items(items), Some(chain.ttl.min(ttl)), zone);
    }
    let metadata = &message.metadata;
    let refers = message
        .authorities
        .iter()
        .any(|record| record.record_type() == RecordType::NS);
    if zone.is_none() && refers && !metadata.authoritative {
        return Reply::Useless(
            "refers to other servers: it is no resolver, and has no authority for the name".to_owned(),
        );
    }
    if !metadata.authoritative && !metadata.recursion_available {
        return Reply::Useless("has no authority for the name and asked nobody".to_owned());
    }
    if chain.aliases > 0 && zone.is_none() && !missing {
        return Reply::Alias {
            name: chain.owner,
            ttl: chain.ttl,
        };
    }
    let ttl = zone.as_ref().map(|(_, ttl)| chain.ttl.min(*ttl));
    definite(Said::Nothing { name_exists: !missing }, ttl, zone.map(|(zone, _)| zone))
}

/// The aliases between the question and whose records answer it.
struct Chain {
    owner: Name,
    ttl: Duration,
    aliases: usize,
}

impl Chain {
    fn follow(question: &Question, message: &Message) -> Self {
        let mut chain = Self {
            owner: question.name.clone(),
            ttl: Duration::MAX,
            aliases: 0,
        };
        while chain.aliases < MAX_ALIASES {
            let own = message.answers.iter().filter(|record| is_about(record, &chain.owner));
            let mut aliases = own.filter_map(|record| {
                let RData::CNAME(target) = &record.data else {
                    return None;
                };
                Some((target.0.to_lowercase(), lifetime(record)))
            });
            let alias = aliases.next();
            let Some((target, ttl)) = alias else { break };
            chain.owner = target;
            chain.ttl = chain.ttl.min(ttl);
            chain.aliases += 1;
        }
        chain
    }
}

/// The records of one kind that a name has, and how long they live.
fn records(kind: Kind, owner: &Name, message: &Message) -> Option<(Items, Duration)> {
    let mut items = Items::new();
    let mut least = None;
    let own = message.answers.iter().filter(|record| is_about(record, owner));
    for record in own.filter(|record| record.record_type() == record_type(kind)) {
        let ttl = lifetime(record);
        least = Some(least.map_or(ttl, |least: Duration| least.min(ttl)));
        if let Some((item, rank)) = item(&record.data) {
            // One target twice counts where it comes first.
            let held = items.entry(item).or_insert(rank);
            *held = (*held).min(rank);
        }
    }
    least.map(|ttl| (items, ttl))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the records of every protocol there is are not ours to list"
)]
pub(super) fn item(data: &RData) -> Option<(Item, Rank)> {
    let plain = |item| Some((item, Rank::default()));
    match data {
        RData::A(address) => plain(Item::Address(address.0.into())),
        RData::AAAA(address) => plain(Item::Address(address.0.into())),
        RData::PTR(instance) => plain(Item::Instance(instance.0.to_lowercase())),
        RData::TXT(text) => plain(Item::Text(text.txt_data.iter().take(MAX_STRINGS).cloned().collect())),
        RData::SRV(srv) => {
            let host = srv.target.to_lowercase();
            let rank = Rank {
                priority: srv.priority,
                weight: srv.weight,
            };
            Some((Item::Target { host, port: srv.port }, rank))
        }
        // An SOA record is read as the zone that it describes.
        _ => None,
    }
}

/// The zone of a name, and how long its absence lasts (RFC 2308, section 5).
fn zone(owner: &Name, message: &Message) -> Option<(Zone, Duration)> {
    let records = message.answers.iter().chain(&message.authorities);
    records
        .filter(|record| record.dns_class == DNSClass::IN && record.name.zone_of(owner))
        .find_map(|record| {
            let RData::SOA(soa) = &record.data else { return None };
            let zone = Zone {
                apex: record.name.to_lowercase(),
                master: soa.mname.to_lowercase(),
                serial: soa.serial,
            };
            Some((zone, lifetime(record).min(seconds(soa.minimum))))
        })
}

fn is_about(record: &Record, owner: &Name) -> bool {
    record.dns_class == DNSClass::IN && &record.name == owner
}

fn lifetime(record: &Record) -> Duration {
    seconds(record.ttl)
}

/// A value with the highest bit set counts as zero (RFC 2181, section 8).
fn seconds(ttl: u32) -> Duration {
    let ttl = i32::try_from(ttl).unwrap_or_default();
    Duration::from_secs(u64::from(ttl.unsigned_abs()))
}

fn record_type(kind: Kind) -> RecordType {
    match kind {
        Kind::Srv => RecordType::SRV,
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
        Kind::Ptr => RecordType::PTR,
        Kind::Txt => RecordType::TXT,
        Kind::Soa => RecordType::SOA,
    }
}

/// As other tools print it.
fn refusal(code: ResponseCode) -> String {
    let words = [
        (ResponseCode::ServFail, "SERVFAIL"),
        (ResponseCode::Refused, "REFUSED"),
        (ResponseCode::FormErr, "FORMERR"),
        (ResponseCode::NotImp, "NOTIMP"),
        (ResponseCode::NotAuth, "NOTAUTH"),
        (ResponseCode::NXDomain, "NXDOMAIN without the question"),
    ];
    let word = words.into_iter().find(|(known, _)| *known == code);
    word.map_or_else(|| format!("the error {}", u16::from(code)), |(_, word)| word.to_owned())
}

#[cfg(test)]
mod tests;

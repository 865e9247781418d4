//! Messages as BIND 9.18.49 and dnsmasq 2.90 sent them, and messages that nobody should send.

use proptest::prelude::*;

use super::*;

/// `label type name hex`, a line each; blanks of a name are underscores.
const RECORDED: &str = include_str!("recorded.txt");

fn question(kind: &str, name: &str) -> Question {
    let kinds = [Kind::Srv, Kind::A, Kind::Aaaa, Kind::Ptr, Kind::Txt, Kind::Soa];
    let kind = kinds.into_iter().find(|known| known.as_str() == kind).unwrap();
    let labels = name.split('.').map(|label| {
        let blanks = label.replacen("first_", "first ", 1);
        blanks.into_bytes()
    });
    let mut name = Name::from_labels(labels.collect::<Vec<_>>().iter().map(Vec::as_slice)).unwrap();
    name.set_fqdn(true);
    Question { name, kind }
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn id(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[0], message[1]])
}

fn recorded(label: &str) -> (Question, Vec<u8>) {
    let mut lines = RECORDED.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let line = lines
        .find(|words| words[0] == label)
        .unwrap_or_else(|| panic!("{label} is not recorded"));
    (question(line[1], line[2]), bytes(line[3]))
}

fn read(label: &str) -> Reply {
    let (question, message) = recorded(label);
    decode(&question, id(&message), &message)
}

fn shown(reply: &Reply) -> String {
    let answer = match reply {
        Reply::Definite(answer) => answer,
        Reply::Truncated => return "truncated".to_owned(),
        Reply::Alias { name, ttl } => return format!("alias of {} for {}s", name.to_ascii(), ttl.as_secs()),
        Reply::Useless(reason) => return reason.clone(),
        Reply::Foreign => return "foreign".to_owned(),
    };
    let said = match &answer.said {
        Said::Items(items) => items.iter().map(show_item).collect::<Vec<_>>().join(", "),
        Said::Nothing { name_exists: true } => "nothing of this kind".to_owned(),
        Said::Nothing { name_exists: false } => "no such name".to_owned(),
    };
    let ttl = answer.ttl.map_or("?".to_owned(), |ttl| format!("{}s", ttl.as_secs()));
    let zone = answer
        .zone
        .as_ref()
        .map(|zone| format!(" zone {} {}", zone.apex.to_ascii(), zone.serial));
    let authority = if answer.authoritative { "" } else { " from a cache" };
    format!(
        "{}: {said} for {ttl}{}{authority}",
        answer.owner.to_ascii(),
        zone.unwrap_or_default()
    )
}

fn show_item((item, rank): (&Item, &Rank)) -> String {
    match item {
        Item::Target { host, port } => format!("{} {} {}:{port}", rank.priority, rank.weight, host.to_ascii()),
        Item::Address(address) => address.to_string(),
        Item::Instance(name) => name.to_ascii(),
        Item::Text(strings) => {
            let strings = strings
                .iter()
                .map(|string| String::from_utf8_lossy(string).into_owned());
            format!("{:?}", strings.collect::<Vec<_>>())
        }
    }
}

#[test]
fn what_servers_send_is_read() {
    let line = |line: &str| {
        let label = line.split(' ').next().unwrap_or_default();
        format!("{label} {}\n", shown(&read(label)))
    };
    let seen: String = RECORDED.lines().map(line).collect();
    assert_eq!(seen, include_str!("read.txt"));
}

#[test]
fn a_question_asks_for_recursion_and_says_how_much_fits() {
    let (id, bytes) = encode(&question("SRV", "_a._tcp.example")).unwrap();
    let message = Message::from_vec(&bytes).unwrap();
    assert_eq!((message.metadata.id, message.metadata.recursion_desired), (id, true));
    assert_eq!(message.max_payload(), UDP_PAYLOAD);
    assert_eq!(message.queries.len(), 1);
}

/// A recorded message, changed and written again.
fn forged(label: &str, change: impl Fn(&mut Message)) -> String {
    let (question, recorded) = recorded(label);
    let mut message = Message::from_vec(&recorded).unwrap();
    change(&mut message);
    shown(&decode(&question, id(&recorded), &message.to_vec().unwrap()))
}

#[test]
fn what_answers_nothing_that_was_asked_is_foreign() {
    let (question, message) = recorded("srv");
    for broken in [&[][..], &[0], &message[..1]] {
        assert_eq!(decode(&question, id(&message), broken), Reply::Foreign);
    }
    assert_eq!(decode(&question, id(&message) ^ 1, &message), Reply::Foreign);
    assert_eq!(
        forged("srv", |message| message.metadata.message_type = MessageType::Query),
        "foreign"
    );
    assert_eq!(forged("srv", |message| message.queries.clear()), "foreign");
    assert_eq!(
        forged("srv", |message| message.metadata.op_code = OpCode::Notify),
        "foreign"
    );
    assert_eq!(
        forged("srv", |message| message.queries[0].query_type = RecordType::A),
        "foreign"
    );
    let other = Name::from_ascii("_other._tcp.leadsman.test.").unwrap();
    assert_eq!(
        forged("srv", |message| message.queries[0].name = other.clone()),
        "foreign"
    );
    let shouted = Name::from_ascii("_ORDERS._TCP.leadsman.test.").unwrap();
    assert!(forged("srv", |message| message.queries[0].name = shouted.clone()).starts_with("_orders."));
}

#[test]
fn what_is_no_answer_is_never_an_absence() {
    let no_authority = |message: &mut Message| {
        message.metadata.authoritative = false;
        message.metadata.recursion_available = false;
    };
    for label in ["nxdomain", "nodata", "cname-nodata"] {
        assert_eq!(
            forged(label, no_authority),
            "has no authority for the name and asked nobody",
            "{label}"
        );
    }
    let denied = forged("srv", |message| message.metadata.response_code = ResponseCode::NXDomain);
    assert_eq!(denied, "an answer that denies the name and lists its records");
    for (code, word) in [
        (ResponseCode::NotImp, "NOTIMP"),
        (ResponseCode::FormErr, "FORMERR"),
        (ResponseCode::YXDomain, "the error 6"),
    ] {
        assert_eq!(
            forged("nxdomain", |message| message.metadata.response_code = code),
            word
        );
    }
    let bare = |code| {
        move |message: &mut Message| {
            message.queries.clear();
            message.metadata.response_code = code;
        }
    };
    assert_eq!(forged("nxdomain", bare(ResponseCode::FormErr)), "FORMERR");
    assert_eq!(
        forged("nxdomain", bare(ResponseCode::NXDomain)),
        "NXDOMAIN without the question"
    );
    assert_eq!(
        forged("nxdomain", |message| message.metadata.truncation = true),
        "truncated"
    );
    let (question, message) = recorded("srv");
    let Reply::Useless(reason) = decode(&question, id(&message), &message[..60]) else {
        panic!("read")
    };
    assert!(reason.starts_with("an answer that can't be read"), "{reason}");
}

#[test]
fn aliases_that_go_in_circles_end() {
    let circle = forged("cname", |message| {
        let own = message.answers[0].clone();
        message.answers = vec![own.clone()];
        message.answers[0].data = RData::CNAME(hickory_proto::rr::rdata::CNAME(own.name));
    });
    assert_eq!(circle, "alias of www.leadsman.test. for 300s");
}

#[test]
fn a_foreign_zone_proves_nothing() {
    let elsewhere = Name::from_ascii("elsewhere.test.").unwrap();
    let moved = forged("nxdomain", |message| message.authorities[0].name = elsewhere.clone());
    assert_eq!(moved, "_none._tcp.leadsman.test.: no such name for ?");
    let parent = Name::from_ascii("test.").unwrap();
    let parent = forged("nxdomain", |message| message.authorities[0].name = parent.clone());
    assert_eq!(
        parent,
        "_none._tcp.leadsman.test.: no such name for 60s zone test. 2026112001"
    );
}

#[test]
fn records_of_other_names_classes_and_kinds_don_t_count() {
    let stray = forged("a", |message| {
        message.answers[0].name = Name::from_ascii("x.test.").unwrap()
    });
    assert_eq!(stray, "b.leadsman.test.: 10.0.0.3 for 20s");
    let chaos = forged("a", |message| message.answers[1].dns_class = DNSClass::CH);
    assert!(
        [
            "b.leadsman.test.: 10.0.0.2 for 20s",
            "b.leadsman.test.: 10.0.0.3 for 20s"
        ]
        .contains(&chaos.as_str()),
        "{chaos}"
    );
}

#[test]
fn absurd_lifetimes_are_zero_and_one_target_twice_counts_once() {
    assert_eq!(
        forged("ttl-zero", |message| message.answers[0].ttl = u32::MAX),
        "c.leadsman.test.: 10.0.0.4 for 0s"
    );
    let twice = forged("target-root", |message| {
        let mut again = message.answers[0].clone();
        if let RData::SRV(srv) = &mut again.data {
            srv.priority = 7;
        }
        message.answers.insert(0, again);
    });
    assert_eq!(twice, "_off._tcp.leadsman.test.: 0 0 .:0 for 30s");
}

proptest! {
    #![proptest_config(leadsman_property::cases(256))]
    #[test]
    fn no_bytes_panic(noise in proptest::collection::vec(any::<u8>(), 0..600)) {
        let (question, message) = recorded("srv");
        decode(&question, id(&message), &noise);
    }

    #[test]
    fn no_damage_panics(places in proptest::collection::vec((0_usize..600, any::<u8>()), 1..8), line in 0_usize..26) {
        let label = RECORDED.lines().nth(line).and_then(|line| line.split(' ').next()).unwrap();
        let (question, mut message) = recorded(label);
        let id = id(&message);
        for (place, byte) in places {
            let length = message.len();
            message[place % length] = byte;
        }
        decode(&question, id, &message);
    }
}

//! The journal survives cuts and damage at every byte.

use proptest::prelude::*;

use super::super::model::{Content, Lease, Place};
use super::*;

const STORE: StoreId = StoreId(0xfeed);

fn put(id: u64, version: u64) -> Entry {
    Entry::Put {
        key: Key::new("orders", &id.to_string()).unwrap(),
        held: Held {
            version,
            lease: Lease(id),
            holder: "h".to_owned(),
            ttl_seconds: 30,
            draining: false,
            endpoint: Content {
                address: "10.0.0.1".to_owned(),
                port: 9001,
                weight: 1.5,
                health: "healthy".to_owned(),
                locality: Place::default(),
                metadata: [("version".to_owned(), "v2\n\"é".to_owned())].into(),
            },
        },
    }
}

fn end(id: u64, revision: u64) -> Entry {
    Entry::End {
        key: Key::new("orders", &id.to_string()).unwrap(),
        revision,
        why: End::LeaseRanOut,
    }
}

/// Two instances at revision 5, and changes above.
fn file(changes: &[Entry]) -> (Vec<u8>, Vec<Entry>) {
    let instances = [put(1, 2), put(2, 5)];
    let mut bytes = Vec::new();
    encode_head(Head::new(STORE, 3, 5, instances.len()), &mut bytes);
    let entries: Vec<Entry> = instances.iter().chain(changes).cloned().collect();
    for entry in &entries {
        encode_entry(entry, &mut bytes);
    }
    (bytes, entries)
}

/// Every end of a line.
fn ends(bytes: &[u8]) -> Vec<usize> {
    (1..=bytes.len()).filter(|end| bytes[end - 1] == b'\n').collect()
}

#[test]
fn what_is_written_is_what_is_read() {
    let (bytes, entries) = file(&[end(1, 6), put(3, 7)]);
    let recovered = recover(&bytes, "x.log").unwrap();
    assert_eq!(recovered.entries, entries);
    assert_eq!((recovered.revision, recovered.whole), (7, bytes.len()));
    assert_eq!((recovered.report, recovered.damage), (None, vec![]));
    let head = recovered.head.unwrap();
    assert_eq!((head.store, head.generation), (STORE, 3));
}

#[test]
fn the_form_of_a_line_does_not_change_by_accident() {
    let mut bytes = Vec::new();
    encode_head(Head::new(STORE, 3, 5, 2), &mut bytes);
    encode_entry(&end(1, 6), &mut bytes);
    encode_entry(&put(1, 2), &mut bytes);
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        concat!(
            r#"d5040410018629fc {"head":{"format":1,"store":"0000000000000000000000000000feed","generation":3,"revision":5,"instances":2}}"#,
            "\n",
            r#"6f3ee9fc4d383181 {"end":{"service":"orders","id":"1","revision":6,"why":"lease_ran_out"}}"#,
            "\n",
            r#"8c6b40fdd944bab7 {"put":{"service":"orders","id":"1","held":{"version":2,"lease":"0000000000000001","holder":"h","ttl_seconds":30,"draining":false,"endpoint":{"address":"10.0.0.1","port":9001,"weight":1.5,"health":"healthy","locality":{"region":"","zone":"","sub_zone":""},"metadata":{"version":"v2\n\"é"}}}}}"#,
            "\n",
        )
    );
}

#[test]
fn a_line_that_was_being_written_was_promised_to_nobody() {
    let (bytes, entries) = file(&[end(1, 6), put(3, 7)]);
    for cut in 0..bytes.len() {
        let recovered = recover(&bytes[..cut], "x.log").unwrap();
        let whole = ends(&bytes).into_iter().filter(|end| *end <= cut).max().unwrap_or(0);
        assert_eq!(recovered.whole, whole, "cut at {cut}");
        let lines = ends(&bytes[..whole]).len();
        assert_eq!(recovered.entries, entries[..lines.saturating_sub(1)], "cut at {cut}");
        assert_eq!(recovered.damage, [], "cut at {cut}");
        // Only a file without its snapshot is incomplete: it appears under its name when that is written.
        assert_eq!(
            recovered.report.is_some(),
            lines < 3,
            "cut at {cut}: {:?}",
            recovered.report
        );
    }
}

#[test]
fn any_damaged_byte_costs_its_own_line_and_is_reported() {
    let (bytes, entries) = file(&[end(1, 6), put(3, 7)]);
    let ends = ends(&bytes);
    for place in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[place] ^= flip;
            let line = ends.iter().position(|end| place < *end).unwrap();
            let recovered = recover(&damaged, "x.log").unwrap();
            let last = place + 1 == bytes.len();
            assert!(recovered.report.is_some() || last, "byte {place} flipped by {flip:x}");
            for (number, entry) in entries.iter().enumerate() {
                // A damaged end of a line takes the next one along.
                let hit = number + 1 == line || (number == line && ends.contains(&(place + 1)));
                assert_eq!(recovered.entries.contains(entry), !hit, "byte {place}, entry {number}");
            }
            assert!(recovered.revision >= 7 || last, "byte {place}: {}", recovered.revision);
        }
    }
}

#[test]
fn a_lost_line_is_missed() {
    let changes = [end(1, 6), put(3, 7), put(4, 8)];
    let (bytes, _) = file(&changes);
    let ends = ends(&bytes);
    for line in 0..ends.len() - 1 {
        let start = line.checked_sub(1).map_or(0, |before| ends[before]);
        let rest = [&bytes[..start], &bytes[ends[line]..]].concat();
        let report = recover(&rest, "x.log").unwrap().report.unwrap();
        let expected = if line == 0 {
            "x.log has no beginning"
        } else {
            "1 lines are missing in x.log"
        };
        assert_eq!(report, expected, "line {line}");
    }
}

#[test]
fn what_is_damaged_is_told_with_its_place() {
    let (mut bytes, _) = file(&[]);
    bytes.extend_from_slice(b"rubbish\n");
    let recovered = recover(&bytes, "x.log").unwrap();
    assert_eq!(recovered.report.unwrap(), "1 lines of x.log are damaged");
    let damage = recovered.damage.first().unwrap();
    assert_eq!(damage.provenance.record.as_ref(), "x.log:4");
    assert!(!damage.provenance.stable);
    let many = b"rubbish\n".repeat(MAX_TOLD * 2);
    assert_eq!(recover(&many, "x.log").unwrap().damage.len(), MAX_TOLD);
}

#[test]
fn a_later_form_is_left_alone() {
    let mut bytes = Vec::new();
    let head = Head {
        format: FORMAT + 1,
        ..Head::new(STORE, 1, 0, 0)
    };
    encode_head(head, &mut bytes);
    assert_eq!(recover(&bytes, "x.log").unwrap_err(), TooNew(2));
}

#[test]
fn a_field_of_a_later_program_does_not_damage_its_line() {
    let json = br#"{"end":{"service":"orders","id":"1","revision":6,"why":"deregistered","by":"x"}}"#;
    let line = format!("{:016x} {}\n", xxh3_64(json), String::from_utf8_lossy(json));
    let recovered = recover(line.as_bytes(), "x.log").unwrap();
    assert_eq!(recovered.entries.len(), 1);
}

proptest! {
    #![proptest_config(leadsman_property::cases(256))]
    #[test]
    fn no_content_of_a_file_can_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let recovered = recover(&bytes, "x.log").unwrap();
        prop_assert!(recovered.whole <= bytes.len());
    }
}

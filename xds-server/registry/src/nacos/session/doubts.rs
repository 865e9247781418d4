//! Why a living session may not know everything, put into one sentence for the operator.

use std::collections::{BTreeMap, BTreeSet};

use leadsman_core::model::ServiceName;

/// What is in doubt at this moment, and what was said of it last.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// Groups whose lists never stood still.
    pub(super) restless: BTreeSet<Box<str>>,
    /// Services that the server refuses to show, and why.
    unreadable: BTreeMap<ServiceName, String>,
    /// Nothing is listed, and this may be why.
    pub(super) emptiness: Option<String>,
    told: Option<String>,
}

impl Doubts {
    pub(super) fn unreadable(&mut self, name: &ServiceName, reason: String) {
        self.unreadable.insert(name.clone(), reason);
    }

    pub(super) fn readable(&mut self, name: &ServiceName) {
        self.unreadable.remove(name);
    }

    pub(super) fn is_unreadable(&self, name: &ServiceName) -> bool {
        self.unreadable.contains_key(name)
    }

    pub(super) fn unreadables(&self) -> impl Iterator<Item = &ServiceName> {
        self.unreadable.keys()
    }

    /// Why a listing is not all there may be.
    pub(super) fn partial(&self) -> Option<String> {
        if let Some((name, reason)) = self.unreadable.first_key_value() {
            let others = self.unreadable.len() - 1;
            let others = if others == 0 {
                String::new()
            } else {
                format!(" and {others} others")
            };
            return Some(format!("{name}{others} can't be read: {reason}"));
        }
        let group = self.restless.first()?;
        Some(format!(
            "the list of group {group:?} never stood still while it was read"
        ))
    }

    /// The sentence, when it differs from the last one.
    pub(super) fn news(&mut self) -> Option<Option<String>> {
        let now = self.partial().or_else(|| self.emptiness.clone());
        (now != self.told).then(|| {
            self.told.clone_from(&now);
            now
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_is_said_once_and_its_end_too() {
        let mut doubts = Doubts::default();
        let [a, b] = ["a", "b"].map(|name| ServiceName::new(name).unwrap());
        assert_eq!(doubts.news(), None);
        doubts.emptiness = Some("elsewhere".to_owned());
        assert_eq!(doubts.news(), Some(Some("elsewhere".to_owned())));
        assert_eq!(doubts.partial(), None);
        doubts.unreadable(&a, "400".to_owned());
        assert_eq!(doubts.news(), Some(Some("a can't be read: 400".to_owned())));
        doubts.unreadable(&b, "500".to_owned());
        assert_eq!(
            doubts.news(),
            Some(Some("a and 1 others can't be read: 400".to_owned()))
        );
        assert!(doubts.is_unreadable(&b));
        doubts.readable(&a);
        doubts.readable(&b);
        doubts.restless.insert("G".into());
        assert!(doubts.news().unwrap().unwrap().contains("\"G\""));
        doubts.restless.clear();
        doubts.emptiness = None;
        assert_eq!(doubts.news(), Some(None));
        assert_eq!(doubts.news(), None);
    }
}

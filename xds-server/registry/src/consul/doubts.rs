//! Why a living session may not know everything, put into one sentence for the operator.

use std::collections::BTreeMap;

use leadsman_core::model::ServiceName;

/// What is in doubt at this moment, and what was said of it last.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// The data is old.
    pub(super) stale: Option<String>,
    /// The list of services may be short.
    pub(super) catalog: Option<&'static str>,
    /// The instances of these services may be more.
    hidden: BTreeMap<ServiceName, &'static str>,
    told: Option<String>,
}

impl Doubts {
    /// Notes what the latest answer of a service hides.
    pub(super) fn note(&mut self, name: &ServiceName, hidden: Option<&'static str>) {
        match hidden {
            Some(why) => self.hidden.insert(name.clone(), why),
            None => self.hidden.remove(name),
        };
    }

    /// Why a listing is not all there may be.
    pub(super) fn partial(&self) -> Option<&'static str> {
        self.catalog.or_else(|| self.hidden.values().next().copied())
    }

    /// The sentence, when it differs from the last one.
    pub(super) fn news(&mut self) -> Option<Option<String>> {
        let now = self.stale.clone().or_else(|| self.partial().map(str::to_owned));
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
        let (mut doubts, name) = (Doubts::default(), ServiceName::new("a").unwrap());
        assert_eq!(doubts.news(), None);
        doubts.note(&name, Some("hidden"));
        assert_eq!(doubts.news(), Some(Some("hidden".to_owned())));
        assert_eq!(doubts.news(), None);
        doubts.stale = Some("old".to_owned());
        assert_eq!(doubts.news(), Some(Some("old".to_owned())));
        doubts.stale = None;
        assert_eq!(doubts.news(), Some(Some("hidden".to_owned())));
        doubts.note(&name, None);
        assert_eq!(doubts.news(), Some(None));
        assert_eq!(doubts.news(), None);
    }
}

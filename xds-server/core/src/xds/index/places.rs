//! A set of streams that is small where they are few and where they are many: there may be one for each name there is,
//! and nearly every stream may be in each.

use super::Place;

/// Bits of the places that are in it, in order. Whoever comes or goes moves at most a word for every 32 open streams.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<Word>);

#[derive(Clone, Copy, Debug)]
struct Word {
    /// Of its first place, divided by the places of a word.
    position: u32,
    bits: u32,
}

impl Places {
    pub(super) fn insert(&mut self, place: Place) {
        let (position, bits) = split(place);
        match self.0.binary_search_by_key(&position, |word| word.position) {
            Ok(found) => {
                if let Some(word) = self.0.get_mut(found) {
                    word.bits |= bits;
                }
            }
            Err(gap) => {
                // Most sets stay small, so they grow by a quarter and not to twice their size.
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(1 + self.0.len() / 4);
                }
                self.0.insert(gap, Word { position, bits });
            }
        }
    }

    pub(super) fn remove(&mut self, place: Place) {
        let (position, bits) = split(place);
        let Ok(found) = self.0.binary_search_by_key(&position, |word| word.position) else {
            return;
        };
        let Some(word) = self.0.get_mut(found) else { return };
        word.bits &= !bits;
        if word.bits == 0 {
            self.0.remove(found);
            if self.0.len() < self.0.capacity() / 2 {
                self.0.shrink_to_fit();
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Place> + '_ {
        self.0.iter().flat_map(|word| {
            let first = word.position * u32::BITS;
            let mut bits = word.bits;
            std::iter::from_fn(move || {
                let lowest = bits.trailing_zeros();
                bits &= bits.wrapping_sub(1);
                (lowest < u32::BITS).then(|| first + lowest)
            })
        })
    }
}

fn split(place: Place) -> (u32, u32) {
    (place / u32::BITS, 1 << (place % u32::BITS))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(leadsman_property::cases(256))]
        #[test]
        fn it_holds_what_a_set_holds_in_the_same_order(
            steps in proptest::collection::vec((any::<bool>(), prop_oneof![0_u32..100, any::<u32>()]), 0..200),
        ) {
            let (mut places, mut set) = (Places::default(), BTreeSet::new());
            for (insert, place) in steps {
                if insert {
                    places.insert(place);
                    set.insert(place);
                } else {
                    places.remove(place);
                    set.remove(&place);
                }
                prop_assert!(places.iter().eq(set.iter().copied()));
                prop_assert_eq!(places.is_empty(), set.is_empty());
            }
        }
    }
}

//! A body cut into lines, none of which is longer than an object can be.

/// The bytes of a body that belong to no finished line yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// Where the first line begins that was not taken.
    start: usize,
    /// Up to where there is no line break.
    searched: usize,
}

/// A line is longer than this many bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong(pub(super) usize);

impl Lines {
    /// One line: etcd takes objects of 1.5 MB, and JSON is longer than what is stored.
    pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;

    pub(super) fn push(&mut self, chunk: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.searched = self.searched.saturating_sub(self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(chunk);
    }

    /// The next line that is complete, without its end.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let rest = self.bytes.get(self.searched..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.bytes.len();
            return self.bounded(self.bytes.len() - self.start).map(|()| None);
        };
        let (start, end) = (self.start, self.searched + length);
        self.start = end + 1;
        self.searched = self.start;
        self.bounded(end - start)?;
        Ok(self.bytes.get(start..end))
    }

    fn bounded(&self, length: usize) -> Result<(), TooLong> {
        if length > Self::MAX_BYTES {
            Err(TooLong(Self::MAX_BYTES))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_without_an_end_is_bounded() {
        let mut lines = Lines::default();
        let chunk = vec![b'x'; Lines::MAX_BYTES / 4];
        for _ in 0..4 {
            lines.push(&chunk);
            assert_eq!(lines.next(), Ok(None));
        }
        lines.push(b"x");
        assert_eq!(lines.next(), Err(TooLong(Lines::MAX_BYTES)));
    }

    proptest! {
        #![proptest_config(leadsman_property::cases(256))]
        #[test]
        fn lines_are_the_same_however_the_body_is_cut(
            body in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..60), cut in 1_usize..9,
        ) {
            let mut lines = Lines::default();
            let mut taken: Vec<Vec<u8>> = Vec::new();
            for chunk in body.chunks(cut) {
                lines.push(chunk);
                while let Some(line) = lines.next().unwrap() {
                    taken.push(line.to_vec());
                }
            }
            let mut expected: Vec<Vec<u8>> = body.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            expected.pop();
            prop_assert_eq!(taken, expected);
        }
    }
}

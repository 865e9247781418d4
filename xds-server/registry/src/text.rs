//! Text that others wrote, cut to a length that logs, statuses and pages can bear.

/// The text, or its beginning in at most `most` bytes, the mark of the cut included. Characters stay whole.
pub(crate) fn shorten(text: &str, most: usize) -> String {
    const CUT: &str = "…";
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub(CUT.len()));
    format!("{}{CUT}", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        assert_eq!(shorten("éé", 4), "éé");
        assert_eq!(shorten("ééé", 5), "é…");
        assert_eq!(shorten("ééé", 4), "…");
    }
}

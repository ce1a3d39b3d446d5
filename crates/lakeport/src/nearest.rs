//! The name a misspelt one was probably meant to be.

/// The candidate nearest to `wanted` by edits, transpositions included; `None` when nothing is near.
#[must_use]
pub fn nearest<'a>(wanted: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this likeness a suggestion would be a guess.
    const LIKE: f64 = 0.4;
    let (wanted, likeness) = (wanted.to_lowercase(), strsim::normalized_damerau_levenshtein);
    candidates
        .map(|c| (likeness(&wanted, &c.to_lowercase()), c))
        .filter(|(like, _)| *like >= LIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposition_is_nearer_than_a_prefix() {
        assert_eq!(nearest("form", ["format", "from", "to"].into_iter()), Some("from"));
        assert_eq!(nearest("xyz", ["format"].into_iter()), None);
    }
}

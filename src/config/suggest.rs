//! The known name that is nearest to a misspelt one.

/// The candidate that a person most likely meant; `None` when nothing is near.
///
/// Counts insertions, deletions, changes and swaps, with `-` equal to `_`; a third of the name may
/// be wrong, because a suggestion that is far off is worse than none.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = name.replace('-', "_");
    let allowed = (plain.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&plain, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

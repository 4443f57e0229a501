//! "Did you mean": the known name that is most similar to a misspelt one.

/// The most similar of `known` to `name`, if it is similar enough.
pub(crate) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // Longer names are not compared, because that takes quadratic time.
    if name.len() > 64 {
        return None;
    }
    let folded: Vec<char> = fold(name);
    let allowed = (folded.len() / 3).clamp(1, 3);
    known
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `output-encoding`, `outputEncoding` and `Output_Encoding` are considered equal.
fn fold(name: &str) -> Vec<char> {
    name.chars()
        .filter(|c| !matches!(c, '_' | '-' | ' '))
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// The number of edits (insert, delete, replace, swap neighbours) from `a` to `b`.
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut rows: [Vec<usize>; 3] = [vec![0; width], (0..width).collect(), vec![0; width]];
    for (i, x) in a.iter().enumerate() {
        rows[2][0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replace = rows[1][j] + usize::from(x != y);
            let mut best = replace.min(rows[1][j + 1] + 1).min(rows[2][j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(rows[0][j - 1] + 1);
            }
            rows[2][j + 1] = best;
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_get_a_suggestion() {
        let known = ["output_encoding", "timeout", "backend", "cache_ttl"];
        for (typed, meant) in [
            ("output-encoding", Some("output_encoding")),
            ("timeuot", Some("timeout")),
            ("backends", Some("backend")),
            ("cacheTTL", Some("cache_ttl")),
            ("websocket", None),
            ("foo", None),
        ] {
            assert_eq!(nearest(typed, known.into_iter()), meant, "{typed}");
        }
    }
}

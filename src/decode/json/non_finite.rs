//! Numbers that JSON doesn't have, as some producers write them: `NaN`, `Infinity`, `-Infinity`, `1e400`.

/// Rewrites the non-finite numbers outside strings (`NaN`, `Infinity`, `-Infinity`, `1e400`) to `null`.
///
/// Returns none when there is nothing to rewrite. Only records that failed to parse come here.
pub(in crate::decode) fn without_non_finite(payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(payload.len());
    let (mut at, mut changed) = (0, false);
    while at < payload.len() {
        let rest = &payload[at..];
        let n = match rest[0] {
            b'"' => string_length(rest),
            b'-' | b'+' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => word_length(rest),
            _ => 1,
        };
        let token = &rest[..n];
        if is_non_finite(token) {
            out.extend_from_slice(b"null");
            changed = true;
        } else {
            out.extend_from_slice(token);
        }
        at += n;
    }
    changed.then_some(out)
}

fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn word_length(rest: &[u8]) -> usize {
    let ends = |b: &u8| !(b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.'));
    rest.iter().position(ends).unwrap_or(rest.len())
}

fn is_non_finite(token: &[u8]) -> bool {
    match token {
        b"NaN" | b"Infinity" | b"-Infinity" => true,
        [b'-' | b'0'..=b'9', ..] => {
            let text = std::str::from_utf8(token).unwrap_or_default();
            text.parse::<f64>().is_ok_and(f64::is_infinite) && !text.contains(['n', 'N'])
        }
        _ => false,
    }
}

//! Numbers, times and names as short words, and text that fits its column. As the console's `chart.js` has them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::text::Span;
use serde_json::Value;

use crate::journal::Opinion;

/// A number in about three digits; a dash where there is none.
pub fn short(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "–".into()
    } else if size >= 1e6 {
        format!("{:.1}M", value / 1e6)
    } else if size >= 1e4 {
        format!("{:.1}k", value / 1e3)
    } else if size >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if size >= 0.01 {
        digits(value, 3)
    } else {
        format!("{value:.1e}")
    }
}

/// The same of what may not be known.
pub fn short_or_dash(value: Option<f64>) -> String {
    short(value.unwrap_or(f64::NAN))
}

/// A share of 1 in percent.
pub fn percent(part: Option<f64>) -> String {
    part.filter(|part| part.is_finite()).map_or_else(|| "–".into(), |part| format!("{} %", short(100.0 * part)))
}

/// So many significant digits, without zeros at the end.
fn digits(value: f64, n: i32) -> String {
    let before = value.abs().log10().floor() as i32 + 1;
    let text = format!("{value:.*}", (n - before).max(0) as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// What was measured, or expected: a number, a category, or nothing.
pub fn measured(value: &Value) -> String {
    match value {
        Value::Null => "missing".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(0.0) => "0".into(),
            Some(number) if (1e-4..1e7).contains(&number.abs()) => digits(number, 5),
            Some(number) => format!("{number:.3e}"),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// A deviation with its sign: `+4.65 σ`.
pub fn sigmas(z: f64) -> String {
    format!("{}{} σ", if z < 0.0 { '−' } else { '+' }, short(z.abs()))
}

/// An opinion as people say it.
pub fn said_of(opinion: Opinion) -> &'static str {
    match opinion {
        Opinion::FalsePositive => "false positive",
        Opinion::TruePositive => "true positive",
        Opinion::Expected => "expected",
    }
}

/// Milliseconds since the epoch of a time in RFC 3339.
pub fn millis(time: &str) -> Option<i64> {
    time.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// How long ago, in one unit.
pub fn age(now_ms: i64, then_ms: i64) -> String {
    let seconds = ((now_ms - then_ms) / 1000).max(0);
    match seconds {
        0..90 => format!("{seconds} s"),
        90..5400 => format!("{} min", seconds / 60),
        5400..129_600 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// The time of day, and before it the day where that is not today.
pub fn clock(time_ms: i64, now_ms: i64, zone: &TimeZone) -> String {
    let at = |ms| Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned_datetime(zone.clone());
    let (time, now) = (at(time_ms), at(now_ms));
    let form = if time.date() == now.date() { "%H:%M:%S" } else { "%m-%d %H:%M" };
    time.strftime(form).to_string()
}

/// Columns that text takes.
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// The beginning of `text` that `room` columns hold, with an ellipsis where something is left out.
pub fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let (mut kept, mut used) = (String::new(), 1);
    for letter in text.chars() {
        used += width(letter.encode_utf8(&mut [0; 4]));
        if used > room {
            break;
        }
        kept.push(letter);
    }
    if room > 0 {
        kept.push('…');
    }
    kept
}

/// Exactly `room` columns of `text`, from the left.
pub fn left(text: &str, room: usize) -> String {
    let text = cut(text, room);
    let gap = room.saturating_sub(width(&text));
    text + &" ".repeat(gap)
}

/// Exactly `room` columns of `text`, to the right.
pub fn right(text: &str, room: usize) -> String {
    let text = cut(text, room);
    " ".repeat(room.saturating_sub(width(&text))) + &text
}

/// `text` in lines of at most `room` columns, broken between words where that is possible.
pub fn wrapped(text: &str, room: usize) -> Vec<String> {
    let room = room.max(1);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one from the start");
        if line.is_empty() {
            line.push_str(word);
        } else if width(line) + 1 + width(word) <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.into_iter().map(|line| cut(&line, room)).collect()
}

/// As many of `parts` as `room` holds, the first ones.
pub fn joined(parts: &[String], room: usize) -> String {
    let mut text = String::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        let longer = if text.is_empty() { part.clone() } else { format!("{text} · {part}") };
        if width(&longer) > room && !text.is_empty() {
            break;
        }
        text = longer;
    }
    cut(&text, room)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (12.0, "12"),
            (3.58343, "3.58"),
            (0.5, "0.5"),
            (1234.5, "1234"),
            (12_345.0, "12.3k"),
            (2.5e6, "2.5M"),
            (0.000_36, "3.6e-4"),
            (f64::NAN, "–"),
        ];
        for (value, expected) in cases {
            assert_eq!(short(value), expected, "{value}");
        }
        assert_eq!((percent(Some(0.001)), percent(None)), ("0.1 %".into(), "–".into()));
        assert_eq!(sigmas(-10.5196), "−10.5 σ");
        let values = [json!(63.05477), json!(null), json!("tcp"), json!(true), json!(-0.00001), json!(52.0)];
        assert_eq!(values.each_ref().map(measured), ["63.055", "missing", "tcp", "true", "-1.000e-5", "52"]);
    }

    #[test]
    fn times_are_told_in_one_unit_and_without_today() {
        assert_eq!([5, 600, 7300, 400_000].map(|s| age(s * 1000, 0)), ["5 s", "10 min", "2 h", "4 d"]);
        assert_eq!(age(0, 5000), "0 s", "clocks differ");
        let day = 86_400_000;
        assert_eq!(clock(day + 1000, day + 5000, &TimeZone::UTC), "00:00:01");
        assert_eq!(clock(1000, day, &TimeZone::UTC), "01-01 00:00");
    }

    #[test]
    fn text_fits_its_column() {
        assert_eq!(cut("vibration", 5), "vibr…");
        assert_eq!(cut("泵泵泵", 4), "泵…", "wide letters take two");
        assert_eq!((cut("x", 0), left("ab", 4), right("ab", 4)), (String::new(), "ab  ".into(), "  ab".into()));
        assert_eq!(wrapped("a bc  def", 4), ["a bc", "def"]);
        assert_eq!(wrapped("abcdef", 3), ["ab…"]);
        let parts = ["one".to_owned(), String::new(), "two".to_owned(), "three".to_owned()];
        assert_eq!(joined(&parts, 9), "one · two");
    }
}

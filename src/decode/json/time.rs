//! The event time of a record, as its time field holds it.

/// Reads an event time: whole or fractional milliseconds since the epoch, RFC 3339, or null for none.
pub(super) fn event_time(raw: &str) -> Result<Option<i64>, String> {
    if raw == "null" {
        return Ok(None);
    }
    if raw.starts_with('"') {
        // Nothing is copied unless there are escapes.
        if let Ok(text) = serde_json::from_str::<&str>(raw) {
            return rfc3339(text);
        }
        if let Ok(text) = serde_json::from_str::<String>(raw) {
            return rfc3339(&text);
        }
    }
    let millis: f64 = raw.parse().map_err(|_| "expected milliseconds or RFC 3339".to_owned())?;
    if !(0.0..=253_402_300_799_999.0).contains(&millis) {
        return Err(format!("{raw} ms is outside the years 1970 to 9999"));
    }
    Ok(Some(millis as i64))
}

fn rfc3339(text: &str) -> Result<Option<i64>, String> {
    let time: jiff::Timestamp = text.parse().map_err(|_| format!("`{text}` is not RFC 3339"))?;
    Ok(Some(time.as_millisecond()))
}

//! Strangers' words, as a terminal may show them.
//!
//! Keys, names and reasons are whatever a producer wrote, and a terminal obeys some of it.

use serde_json::Value;

/// [`clean`]s all strings of `document`, names of fields apart.
pub fn cleanse(document: &mut Value) {
    match document {
        Value::String(text) if text.chars().any(is_hidden) => *text = clean(text),
        Value::Array(items) => items.iter_mut().for_each(cleanse),
        Value::Object(fields) => fields.values_mut().for_each(cleanse),
        _ => {}
    }
}

/// `text` with a sign in the place of each letter that would do something instead of being seen.
pub fn clean(text: &str) -> String {
    let shown = |letter: char| match letter {
        '\t' | '\n' | '\r' => ' ',
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(letter)).unwrap_or('\u{fffd}'),
        '\x7f' => '␡',
        hidden if is_hidden(hidden) => '\u{fffd}',
        plain => plain,
    };
    text.chars().map(shown).collect()
}

/// JSON as it came, but escaped where a terminal would obey it: the same document.
pub fn escaped(json: &str) -> String {
    let escape = |letter: char| match letter {
        '\n' => "\n".to_owned(),
        hidden if is_hidden(hidden) => {
            hidden.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
        }
        plain => plain.to_string(),
    };
    json.chars().map(escape).collect()
}

/// Whether a letter orders a terminal about, turns text around, or can't be seen.
pub fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(letter, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_seen() {
        let mut document = serde_json::json!([{"key": "a\u{1b}[2J"}, 7, "plain ▁█ π"]);
        cleanse(&mut document);
        assert_eq!(document, serde_json::json!([{"key": "a␛[2J"}, 7, "plain ▁█ π"]));
        assert_eq!(clean("\t\u{7f}\u{9b}"), " ␡\u{fffd}");
    }

    #[test]
    fn json_that_is_printed_stays_the_same_document() {
        let document = serde_json::json!({"detector": "a\u{9b}2J\u{7f}\u{202e}\u{e0001}b"});
        let printed = escaped(&document.to_string());
        assert!(printed.is_ascii(), "{printed}");
        assert_eq!(serde_json::from_str::<Value>(&printed).expect("JSON"), document);
    }
}

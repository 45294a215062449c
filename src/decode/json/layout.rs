//! Remembers how the records of a topic are laid out: which field follows which, and the very bytes between two values.
//!
//! A producer writes its fields in one order with one spelling, so what stands between two values (comma, space, name,
//! colon) is nearly always what stood there in the last record, and one comparison of a few words does for scanning,
//! looking up and unescaping. What is remembered is a guess about where to look, never about what a text means: equal
//! bytes in an equal place have an equal meaning.

use super::names::{Names, Role};

/// Longest text that is remembered, bytes: longer names are looked up every time.
const TEXT_MAX: usize = 48;
/// Unknown fields that are remembered.
const N_UNKNOWN: usize = 16;

/// What is remembered of one object.
pub(super) struct Layout {
    /// One slot for each name that means something, in the order of [`Layout::place`], and some for unknown ones.
    slots: Vec<Slot>,
    n_features: usize,
    n_known: usize,
    /// Which of the unknown names' slots was filled last.
    spare: usize,
    /// The slot of the field that came first in the last object.
    first: usize,
    /// The slot of the last field, meaningless before the first.
    last: usize,
    /// The slot of the field that is expected next.
    expected: usize,
    is_at_start: bool,
}

/// One field.
#[derive(Clone)]
struct Slot {
    /// What stands between the value before and this one, filled up with zeros.
    text: [u8; TEXT_MAX],
    /// Length of the text; 0: not known.
    len: usize,
    /// The bits of the text's last word that are part of it.
    last_bits: u64,
    /// Whether it was the object's first, so that there is no comma in the text.
    is_first: bool,
    role: Role,
    /// The slot that followed the last time.
    next: usize,
}

impl Layout {
    pub(super) fn new(names: &Names) -> Self {
        let n_known = names.features.len() + 2 + names.passthrough.len();
        let n_slots = n_known + N_UNKNOWN;
        let slot = |i| Slot {
            text: [0; TEXT_MAX],
            len: 0,
            last_bits: 0,
            is_first: true,
            role: Role::Unknown,
            next: (i + 1) % n_slots,
        };
        Self {
            slots: (0..n_slots).map(slot).collect(),
            n_features: names.features.len(),
            n_known,
            spare: 0,
            first: 0,
            last: 0,
            expected: 0,
            is_at_start: true,
        }
    }

    /// Starts an object.
    pub(super) fn restart(&mut self) {
        self.expected = self.first;
        self.is_at_start = true;
    }

    /// The field at the start of `rest` if it is the expected one, with the length of what stands before its value.
    #[inline(always)]
    pub(super) fn expected(&mut self, rest: &[u8]) -> Option<(Role, usize)> {
        let slot = &self.slots[self.expected];
        if slot.is_first != self.is_at_start || !slot.is_at(rest) {
            return None;
        }
        self.last = self.expected;
        self.expected = slot.next;
        self.is_at_start = false;
        Some((slot.role, slot.len))
    }

    /// Remembers that a field of this role follows, and the text before its value.
    pub(super) fn learn(&mut self, role: Role, text: &[u8]) {
        let i = self.place(role);
        if self.is_at_start {
            self.first = i;
        } else {
            self.slots[self.last].next = i;
        }
        let slot = &mut self.slots[i];
        (slot.role, slot.is_first, slot.len) = (role, self.is_at_start, 0);
        if let Some(room) = slot.text.get_mut(..text.len()) {
            room.copy_from_slice(text);
            slot.len = text.len();
            slot.last_bits = u64::MAX >> (8 * (slot.len.next_multiple_of(8) - slot.len));
        }
        self.last = i;
        self.expected = slot.next;
        self.is_at_start = false;
    }

    fn place(&mut self, role: Role) -> usize {
        match role {
            Role::Feature(i) => i,
            Role::Vector => self.n_features,
            Role::Time => self.n_features + 1,
            Role::Passthrough(i) => self.n_features + 2 + i,
            Role::Unknown | Role::Inner(_) => {
                self.spare = (self.spare + 1) % N_UNKNOWN;
                self.n_known + self.spare
            }
        }
    }
}

impl Slot {
    #[inline(always)]
    fn is_at(&self, rest: &[u8]) -> bool {
        let padded = self.len.next_multiple_of(8);
        let (Some(mine), Some(theirs)) = (self.text.get(..padded), rest.get(..padded)) else {
            return self.len > 0 && rest.starts_with(&self.text[..self.len]);
        };
        let pairs = mine.as_chunks::<8>().0.iter().zip(theirs.as_chunks::<8>().0);
        let mut pairs = pairs.map(|(mine, theirs)| u64::from_le_bytes(*mine) ^ u64::from_le_bytes(*theirs));
        // Where nothing is known there is no last word.
        let Some(last) = pairs.next_back() else { return false };
        pairs.fold(last & self.last_bits, |differing, word| differing | word) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Config, Decoder, Field};
    use super::super::Json;
    use super::*;

    fn json() -> Json {
        Json::new(&Config::default(), &["a", "b"].map(Field::number))
    }

    fn is_good(json: &mut Json, payload: &str) -> bool {
        json.decode(payload.as_bytes(), &mut [f32::NAN; 2]).is_ok()
    }

    #[test]
    fn what_stands_first_has_no_comma_and_what_follows_has_one() {
        let mut json = json();
        for record in [r#"{"a":1,"b":2}"#, r#"{"b":1,"a":2}"#, r#"{"a":1,"b":2}"#] {
            assert!(is_good(&mut json, record));
        }
        for record in [r#"{"b":1"a":2}"#, r#"{,"a":1}"#, r#"{"a":1"b":2}"#, r#"{,"b":1,"a":2}"#, r#"{"b":1,"a":2,}"#] {
            assert!(!is_good(&mut json, record), "{record}");
        }
    }

    #[test]
    fn any_layout_is_expected_from_the_second_record_on() {
        let names = Names::new(&Config::default(), &["a", "b"].map(Field::number));
        let mut layout = Layout::new(&names);
        let (roles, texts) =
            ([Role::Feature(1), Role::Unknown, Role::Feature(0)], ["\"b\": ", ", \"x\" : ", ",\"a\":"]);
        layout.restart();
        for (role, text) in roles.into_iter().zip(texts) {
            assert_eq!(layout.expected(text.as_bytes()), None);
            layout.learn(role, text.as_bytes());
        }
        layout.restart();
        for (role, text) in roles.into_iter().zip(texts) {
            assert_eq!(layout.expected(format!("{text}1}}").as_bytes()), Some((role, text.len())));
        }
    }

    #[test]
    fn a_text_that_only_begins_alike_is_another() {
        let mut layout = Layout::new(&Names::new(&Config::default(), &[Field::number("a")]));
        let text = format!("\"{}\":", "n".repeat(TEXT_MAX - 3));
        for (learnt, met) in [("\"a\":", "\"ab\":1 and more"), ("\"a_name\":", "\"a_nam\":1"), (&*text, &text[..40])] {
            layout.restart();
            layout.learn(Role::Feature(0), learnt.as_bytes());
            layout.restart();
            assert_eq!(layout.expected(met.as_bytes()), None, "{met}");
            assert_eq!(layout.expected(learnt.as_bytes()), Some((Role::Feature(0), learnt.len())));
        }
        layout.learn(Role::Feature(0), &[b'x'; TEXT_MAX + 1]);
        layout.restart();
        assert_eq!(layout.expected(&[b'x'; TEXT_MAX + 1]), None, "too long a text is not remembered");
    }
}

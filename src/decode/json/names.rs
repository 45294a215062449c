//! What the names of a record's fields mean.

use std::collections::HashMap;

use super::super::field::Field;

/// What the names of an object's fields mean.
pub(super) struct Names {
    pub(super) features: Vec<Field>,
    pub(super) index: HashMap<String, usize>,
    pub(super) field: Option<String>,
    pub(super) time: Option<String>,
    pub(super) passthrough: Vec<String>,
}

/// Meaning of one field.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Feature(usize),
    Vector,
    Time,
    Passthrough(usize),
    Unknown,
}

/// Whether the record itself or the vector inside it is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Outer,
    Vector,
}

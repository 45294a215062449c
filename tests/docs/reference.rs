//! The tables of keys in docs/CONFIGURATION.md, from the code: its types, its defaults and its doc comments.
//!
//! Keys and defaults are those of the default configuration as it is written out; a table of it is the struct with the
//! very same fields. What is said of a key is the first paragraph of its field's doc comment. `make docs` writes the
//! tables between their markers, `<!-- keys: SECTION… -->` and `<!-- /keys -->`; what stands around them is kept.

use std::fs;
use std::path::Path;

use serde_json::Value;
use syn::{
    Attribute, Expr, ExprLit, Fields, GenericArgument, Item, ItemEnum, ItemStruct, Lit, Meta, PathArguments, Type,
};

/// Types that say in the configuration something else than their syntax does.
const SPOKEN: [(&str, &str); 12] = [
    ("String", "text"),
    ("char", "text"),
    ("PathBuf", "path"),
    ("Duration", "time"),
    ("SocketAddr", "address:port"),
    ("bool", "`true` `false`"),
    ("Topics", "text or list of text"),
    ("Start", "`latest` `earliest` RFC 3339 time"),
    ("Wish", "names and tables"),
    ("Suppression", "tables"),
    ("Maintenance", "tables"),
    ("FeatureLimit", "tables"),
];

const OPENING: &str = "<!-- keys: ";
const CLOSING: &str = "<!-- /keys -->";

/// What is declared, each with the file that it stands in.
#[derive(Default)]
pub struct Code {
    structs: Vec<(String, ItemStruct)>,
    enums: Vec<(String, ItemEnum)>,
}

/// One key.
pub struct Key {
    path: String,
    row: String,
}

impl Code {
    /// Reads every file below a folder.
    pub fn read(folder: &Path) -> Self {
        let mut code = Self::default();
        code.add(folder);
        code
    }

    fn add(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).expect("the code can be read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                self.add(&path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("code is text");
                let file = path.display().to_string();
                for item in syn::parse_file(&text).expect("it is Rust").items {
                    match item {
                        Item::Struct(item) => self.structs.push((file.clone(), item)),
                        Item::Enum(item) => self.enums.push((file.clone(), item)),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Every key of a table, in the order in which the code declares them.
    pub fn keys(&self, prefix: &str, table: &Value) -> Vec<Key> {
        let wanted = table.as_object().expect("a table");
        let is_it = |item: &ItemStruct| {
            let mut names: Vec<String> =
                item.fields.iter().filter_map(|field| field.ident.as_ref()).map(name).collect();
            names.sort();
            names.iter().eq(wanted.keys()) && matches!(item.fields, Fields::Named(_))
        };
        let mut found = self.structs.iter().filter(|(_, item)| is_it(item));
        let (file, item) = found.next().unwrap_or_else(|| panic!("no struct has the fields of [{prefix}]"));
        assert!(found.next().is_none(), "two structs have the fields of [{prefix}]");
        let of_field = |field: &syn::Field| {
            let name = name(field.ident.as_ref().expect("a name"));
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            let default = &wanted[&name];
            match default {
                Value::Object(inner) if !inner.is_empty() => self.keys(&path, default),
                _ => vec![self.key(file, path, field, default)],
            }
        };
        item.fields.iter().flat_map(of_field).collect()
    }

    fn key(&self, file: &str, path: String, field: &syn::Field, default: &Value) -> Key {
        let meaning = said(&field.attrs);
        assert!(meaning.ends_with('.'), "{path} is not explained by a sentence: {meaning:?}");
        let shown = match default {
            Value::Null => "none".to_owned(),
            Value::String(text) if text.is_empty() => "must be set".to_owned(),
            value => format!("`{value}`"),
        };
        let kind = self.spoken(file, &field.ty, default);
        let row = format!("| `{path}` | {kind} | {shown} | {} |\n", meaning.replace('|', "\\|"));
        Key { path, row }
    }

    /// A type in the words of the configuration.
    fn spoken(&self, file: &str, of: &Type, default: &Value) -> String {
        let Type::Path(path) = of else { panic!("{file}: a key's type has a name") };
        let last = path.path.segments.last().expect("a path has an end");
        let name = last.ident.to_string();
        let inner = || match &last.arguments {
            PathArguments::AngleBracketed(list) => match list.args.last() {
                Some(GenericArgument::Type(inner)) => self.spoken(file, inner, &Value::Null),
                _ => panic!("{file}: {name} is of no type"),
            },
            _ => panic!("{file}: {name} is of nothing"),
        };
        match &*name {
            "Option" => inner(),
            "Vec" => format!("list of {}", inner()),
            "BTreeMap" => format!("{} by name", inner()),
            "f32" | "f64" => "number".to_owned(),
            "u16" | "u32" | "u64" | "usize" => "whole number".to_owned(),
            _ => match SPOKEN.iter().find(|(rust, _)| *rust == name) {
                Some((_, spoken)) => (*spoken).to_owned(),
                None => self.variants(file, &name, default),
            },
        }
    }

    /// The values of an enum: the nearest of that name that has the default.
    fn variants(&self, file: &str, name: &str, default: &Value) -> String {
        let shared = |other: &str| other.bytes().zip(file.bytes()).take_while(|(a, b)| a == b).count();
        let named = self.enums.iter().filter(|(_, item)| item.ident == name).map(|(file, item)| {
            let values: Vec<String> = item.variants.iter().map(|variant| value(item, &variant.ident)).collect();
            (shared(file), values)
        });
        let fits = |values: &[String]| default.as_str().is_none_or(|default| values.iter().any(|v| v == default));
        let nearest = named.filter(|(_, values)| fits(values)).max_by_key(|(near, _)| *near);
        let (_, values) = nearest.unwrap_or_else(|| panic!("{file}: {name} needs a place in SPOKEN"));
        values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" ")
    }
}

fn name(ident: &syn::Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_owned()
}

/// How a variant is written: as serde's `rename_all` says.
fn value(of: &ItemEnum, variant: &syn::Ident) -> String {
    let words = of.attrs.iter().filter(|attribute| attribute.path().is_ident("serde"));
    let is_lower = words
        .filter_map(|word| word.meta.require_list().ok())
        .any(|list| list.tokens.to_string().contains("\"lowercase\""));
    let mut text = String::new();
    for (at, letter) in variant.to_string().char_indices() {
        if letter.is_uppercase() && at > 0 && !is_lower {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// The first paragraph of a doc comment.
fn said(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else { return None };
        let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value else { return None };
        pair.path.is_ident("doc").then(|| text.value().trim().to_owned())
    });
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The page with its tables as the code has them, and the keys that no marker asks for, or more than one.
pub fn written(page: &str, keys: &[Key]) -> (String, Vec<String>) {
    let mut text = String::new();
    let mut n_shown = vec![0; keys.len()];
    let mut rest = page;
    while let Some((before, after)) = rest.split_once(OPENING) {
        let (sections, after) = after.split_once(" -->\n").expect("a marker ends");
        let (_, after) = after.split_once(CLOSING).expect("a table ends");
        text.push_str(&format!(
            "{before}{OPENING}{sections} -->\n| key | type | default | meaning |\n|---|---|---|---|\n"
        ));
        for (key, n_shown) in keys.iter().zip(&mut n_shown) {
            if sections.split(' ').any(|section| key.path.split('.').next() == Some(section)) {
                text.push_str(&key.row);
                *n_shown += 1;
            }
        }
        text.push_str(CLOSING);
        rest = after;
    }
    text.push_str(rest);
    let wrong = keys.iter().zip(n_shown).filter(|(_, n)| *n != 1).map(|(key, _)| key.path.clone());
    (text, wrong.collect())
}

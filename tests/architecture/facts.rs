//! What a source file says about itself, read as syntax: what it names, how long its functions are, what it calls.
//!
//! Test code (`#[cfg(test)]`, `#[test]`) counts only where a rule is for it too: the lengths of functions and the
//! macros. Names are resolved through the file's own imports, so that `use std::thread` and then `thread::spawn` is
//! `std::thread::spawn`; what comes out of a macro's expansion is not seen.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprLit, ImplItem, Item, Lit, Meta, UseTree};

/// A name and the line on which it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// A path such as `std::thread::spawn` or `crate::sink::Sink`, or a plain name.
    pub name: String,
    /// Line, counted from 1.
    pub line: usize,
}

/// A `mod name;`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Name of the module.
    pub name: String,
    /// What `#[path = "…"]` says.
    pub path: Option<String>,
    /// Whether it is test code.
    pub is_test: bool,
}

/// What one file says about itself.
#[derive(Debug, Default)]
pub struct Facts {
    /// Resolved paths outside test code; ours begin with `crate::`.
    pub paths: Vec<Named>,
    /// Functions and their lengths in lines, test code included.
    pub functions: Vec<(Named, usize)>,
    /// Calls of `.unwrap()` outside test code.
    pub unwraps: Vec<usize>,
    /// Macros that are called, test code included.
    pub macros: Vec<Named>,
    /// Modules that are declared to be in files of their own.
    pub modules: Vec<Declared>,
}

/// Reads a file. `module` is its path below the crate's root; `is_test` says that all of it is test code.
pub fn read(text: &str, module: &[&str], is_test: bool) -> syn::Result<Facts> {
    let file = syn::parse_file(text)?;
    let mut reader = Reader { n_test: usize::from(is_test), ..Reader::default() };
    reader.visit_file(&file);
    let Reader { mut facts, names, aliases, .. } = reader;
    facts.paths = names.iter().map(|(path, line)| resolve(path, *line, module, &aliases)).collect();
    Ok(facts)
}

/// Writes a path out from the root of its crate.
fn resolve(path: &[String], line: usize, module: &[&str], aliases: &BTreeMap<String, Vec<String>>) -> Named {
    let mut path = path.to_vec();
    if let Some(full) = aliases.get(&path[0]) {
        path.splice(0..1, full.iter().cloned());
    }
    let n_super = path.iter().take_while(|segment| *segment == "super").count();
    if n_super > 0 || path[0] == "self" {
        let kept = module.len().saturating_sub(n_super);
        let above = ["crate"].into_iter().chain(module[..kept].iter().copied()).map(str::to_owned);
        path.splice(0..n_super.max(1), above);
    } else if path[0] == "strayd" {
        path[0] = "crate".to_owned();
    }
    Named { name: path.join("::"), line }
}

#[derive(Default)]
struct Reader {
    facts: Facts,
    names: Vec<(Vec<String>, usize)>,
    aliases: BTreeMap<String, Vec<String>>,
    /// How many of the items around this place are test code.
    n_test: usize,
}

impl Reader {
    fn name(&mut self, path: Vec<String>, line: usize) {
        if self.n_test == 0 && !path.is_empty() {
            self.names.push((path, line));
        }
    }

    fn function(&mut self, name: &syn::Ident, block: &syn::Block) {
        let n_lines = block.span().end().line + 1 - name.span().start().line;
        self.facts.functions.push((Named { name: name.to_string(), line: name.span().start().line }, n_lines));
    }

    fn use_tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |ident: &syn::Ident| before.iter().cloned().chain([ident.to_string()]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.use_tree(&with(&path.ident), &path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(before, tree)),
            UseTree::Glob(glob) => {
                let path = before.iter().cloned().chain(["*".to_owned()]).collect();
                self.name(path, glob.span().start().line);
            }
            UseTree::Name(name) if name.ident == "self" => self.import(before.to_vec(), None, name.span()),
            UseTree::Name(name) => self.import(with(&name.ident), None, name.span()),
            UseTree::Rename(rename) if rename.ident == "self" => {
                self.import(before.to_vec(), Some(&rename.rename), rename.span());
            }
            UseTree::Rename(rename) => self.import(with(&rename.ident), Some(&rename.rename), rename.span()),
        }
    }

    fn import(&mut self, path: Vec<String>, alias: Option<&syn::Ident>, span: proc_macro2::Span) {
        let name = alias.map(ToString::to_string).or_else(|| path.last().cloned());
        // A path of one segment is its own name; to follow it would lead in a circle.
        if let (Some(name), true, 0) = (name, path.len() > 1 || alias.is_some(), self.n_test) {
            self.aliases.insert(name, path.clone());
        }
        self.name(path, span.start().line);
    }

    /// Finds paths and `.unwrap()` among the tokens of a macro call.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_punct = |at: usize, char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == char);
        let mut at = 0;
        while at < tokens.len() {
            let after_dot = at > 0 && is_punct(at - 1, '.');
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(ident) if after_dot => {
                    let called = matches!(&tokens.get(at + 1), Some(TokenTree::Group(group))
                        if group.delimiter() == Delimiter::Parenthesis && group.stream().is_empty());
                    if ident == "unwrap" && called && self.n_test == 0 {
                        self.facts.unwraps.push(ident.span().start().line);
                    }
                }
                TokenTree::Ident(ident) => {
                    let mut path = vec![ident.to_string()];
                    while is_punct(at + 1, ':') && is_punct(at + 2, ':') {
                        let Some(TokenTree::Ident(next)) = tokens.get(at + 3) else { break };
                        path.push(next.to_string());
                        at += 3;
                    }
                    if is_punct(at + 1, '!') && matches!(tokens.get(at + 2), Some(TokenTree::Group(_))) {
                        let name = path.last().cloned().expect("it holds the first identifier");
                        self.facts.macros.push(Named { name, line: ident.span().start().line });
                    }
                    self.name(path, ident.span().start().line);
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let test = usize::from(is_test(attributes(item)));
        self.n_test += test;
        visit::visit_item(self, item);
        self.n_test -= test;
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let test = usize::from(matches!(item, ImplItem::Fn(function) if is_test(&function.attrs)));
        self.n_test += test;
        visit::visit_impl_item(self, item);
        self.n_test -= test;
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_none() {
            let path = item.attrs.iter().find_map(path_of);
            self.facts.modules.push(Declared { name: item.ident.to_string(), path, is_test: self.n_test > 0 });
        }
        visit::visit_item_mod(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&[], &item.tree);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig.ident, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig.ident, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.function(&function.sig.ident, block);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.name(segments, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(last) = call.path.segments.last() {
            let name = last.ident.to_string();
            self.facts.macros.push(Named { name, line: call.span().start().line });
        }
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if call.method == "unwrap" && call.args.is_empty() && self.n_test == 0 {
            self.facts.unwraps.push(call.method.span().start().line);
        }
        visit::visit_expr_method_call(self, call);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// What `#[path = "…"]` says.
fn path_of(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    let Expr::Lit(ExprLit { lit: Lit::Str(path), .. }) = &pair.value else { return None };
    pair.path.is_ident("path").then(|| path.value())
}

/// Whether one of the attributes makes the item test code: `#[test]`, `#[cfg(test)]`, `#[cfg(all(test, …))]`.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            let text = list.tokens.to_string().replace(' ', "");
            text == "test" || text.starts_with("all(test,")
        }
        _ => false,
    })
}

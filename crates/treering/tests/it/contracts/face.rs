//! The public face, as the sources have it: so that a function that is added is added to the contracts.

use std::collections::BTreeSet;
use std::path::Path;

use super::{kinds, send};

/// What a function returns if awaiting it, or its items, is what it is for.
const AWAITED: [&str; 11] = [
    "impl Future",
    " Get<",
    " GetWith<",
    " Write<",
    " TypedWrite<",
    " Modify<",
    " Commit ",
    " CommitSequences ",
    "Range",
    " Values ",
    " ValueReader ",
];

/// All public functions that are async or return a future or a stream, as `Type::function`.
fn public() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    look(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found
}

fn look(path: &Path, found: &mut BTreeSet<String>) {
    // What blocks has no futures.
    if path.ends_with("src/blocking") {
        return;
    }
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            look(&entry.unwrap().path(), found);
        }
        return;
    }
    let text = std::fs::read_to_string(path).unwrap();
    let (mut owner, mut hidden) = (String::new(), false);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("impl") {
            owner = owner_of(line);
        } else if line.trim() == "#[doc(hidden)]" {
            hidden = true;
        } else if let Some(rest) = line.strip_prefix("    pub ") {
            let skip = std::mem::take(&mut hidden);
            let is_async = rest.starts_with("async ");
            let Some(rest) = rest.trim_start_matches("async ").strip_prefix("fn ") else {
                continue;
            };
            let name = rest.split(['(', '<']).next().unwrap();
            let mut signature = rest.to_owned();
            while !signature.contains('{') {
                signature.push(' ');
                signature.push_str(lines.next().unwrap().trim());
            }
            let returned = signature.split_once("->").map_or("", |(_, returned)| returned);
            if !skip && (is_async || AWAITED.iter().any(|what| returned.contains(what))) {
                found.insert(format!("{owner}::{name}"));
            }
        }
    }
}

/// `impl<K: Key> Type<K> {` is about `Type`.
fn owner_of(line: &str) -> String {
    let mut depth = 0;
    let outside = |letter: &char| {
        depth += i32::from(*letter == '<') - i32::from(*letter == '>');
        depth == 0 && *letter != '>'
    };
    let plain: String = line.chars().filter(outside).collect();
    plain.trim_start_matches("impl").split_whitespace().next().unwrap_or_default().to_owned()
}

#[test]
fn every_public_future_is_among_the_operations_of_these_tests() {
    let public = public();
    assert!(public.len() > 70, "only {} functions were found: {public:?}", public.len());
    let about = kinds();
    let about = about.iter().flat_map(|kind| kind.about.split_whitespace().map(str::to_owned));
    let about: BTreeSet<String> = about.collect();
    let missing: Vec<_> = public.difference(&about).collect();
    assert!(missing.is_empty(), "no operation is about {missing:?}");
    let gone: Vec<_> = about.difference(&public).collect();
    assert!(gone.is_empty(), "there is no {gone:?}");
}

#[test]
fn every_public_future_is_shown_to_be_send() {
    let (public, shown) = (public(), send::shown());
    let missing: Vec<_> = public.iter().filter(|name| !shown.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "nothing says that the futures of {missing:?} are Send");
}

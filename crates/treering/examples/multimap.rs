//! An index with duplicates: which notes have a word. A tree of notes, and a tree in which a word is there
//! once for each note that has it; both are changed in one batch, so the index is never wrong.
//!
//! A tree with duplicates hands out a number with each value, its sequence. Numbers grow and never come
//! back, so the values of a key are in the order of their insertion, and one of them can be taken away
//! by its number, also when another has the same bytes.
//!
//! `cargo run --release -p treering --example multimap`

use std::collections::BTreeSet;

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use treering::{Batch, Database, Error, ErrorKind, MultiTree, Options, Serde, TypedTree};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    /// One more with each change, so that no two states of a note are equal.
    version: u64,
    text: String,
}

#[derive(Clone)]
struct Notes {
    db: Database,
    notes: TypedTree<String, Serde<Note>>,
    /// Word to names of notes.
    index: MultiTree,
}

fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_alphanumeric());
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

impl Notes {
    async fn open(path: &std::path::Path) -> Result<Self, Error> {
        let db = Options::new().cache_size(16 << 20).open(path).await?;
        Ok(Self { notes: db.typed("notes").await?, index: db.multi_tree("words").await?, db })
    }

    /// Makes a batch that is committed only if the note still is `old`, and takes its words out of the
    /// index. What is read here may have changed by then: but not if the note has not.
    async fn replacing(&self, name: &str, old: Option<&Note>) -> Result<Batch, Error> {
        let mut batch = self.db.batch();
        let Some(old) = old else {
            batch.typed(&self.notes).require_absent(name);
            return Ok(batch);
        };
        batch.typed(&self.notes).require_value(name, old);
        for word in words(&old.text) {
            let mut entries = self.index.get_all(&word);
            while let Some((sequence, entry)) = entries.try_next().await? {
                if *entry == *name.as_bytes() {
                    batch.delete_dup(&self.index, &word, sequence);
                }
            }
        }
        Ok(batch)
    }

    /// Writes a note, whatever was there.
    async fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        loop {
            let old = self.notes.get(name).await?;
            let version = old.as_ref().map_or(1, |old| old.version + 1);
            let mut batch = self.replacing(name, old.as_deref()).await?;
            batch.typed(&self.notes).put(name, &Note { version, text: text.to_owned() });
            for word in words(text) {
                batch.insert_dup(&self.index, word, name);
            }
            if or_conflict(batch.commit().await)? {
                return Ok(());
            }
        }
    }

    /// Takes a note and its words away; false if there is none.
    async fn remove(&self, name: &str) -> Result<bool, Error> {
        loop {
            let Some(old) = self.notes.get(name).await? else { return Ok(false) };
            let mut batch = self.replacing(name, Some(&old)).await?;
            batch.typed(&self.notes).delete(name);
            if or_conflict(batch.commit().await)? {
                return Ok(true);
            }
        }
    }

    /// The names of the notes that have a word, the one that was written last first.
    async fn with(&self, word: &str) -> Result<Vec<String>, Error> {
        let names = self.index.get_all(word).rev();
        names.map_ok(|(_, name)| String::from_utf8_lossy(&name).into_owned()).try_collect().await
    }

    /// Words that begin with something, each with how many notes have it.
    async fn completions(&self, start: &str) -> Result<Vec<(String, usize)>, Error> {
        let mut counts: Vec<(String, usize)> = Vec::new();
        let mut entries = self.index.prefix(start);
        while let Some((word, _, _)) = entries.try_next().await? {
            let word = String::from_utf8_lossy(&word).into_owned();
            match counts.last_mut() {
                Some((last, count)) if *last == word => *count += 1,
                _ => counts.push((word, 1)),
            }
        }
        Ok(counts)
    }
}

/// Whether a batch was committed; false if somebody else has changed the note meanwhile.
fn or_conflict(committed: Result<(), Error>) -> Result<bool, Error> {
    use ErrorKind::{KeyExists, KeyMissing, ValueDiffers};
    match committed {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), KeyExists | KeyMissing | ValueDiffers) => Ok(false),
        Err(error) => Err(error),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let notes = Notes::open(&folder.path().join("data.tr")).await?;
    notes.write("engine", "The engine weaves algebraic patterns").await?;
    notes.write("loom", "as the Jacquard loom weaves flowers").await?;
    notes.write("garden", "Flowers, and no patterns").await?;
    assert_eq!(notes.with("weaves").await?, ["loom", "engine"]);
    assert_eq!(notes.with("flowers").await?, ["garden", "loom"]);
    let completions = notes.completions("a").await?;
    assert_eq!(completions, [("algebraic", 1), ("and", 1), ("as", 1)].map(|(w, n)| (w.into(), n)));

    // Twenty writers of one note: each word of the last text is in the index once, and no other.
    let writers = (0..20).map(|n| {
        let notes = notes.clone();
        tokio::spawn(async move { notes.write("garden", &format!("Flowers, number {n}")).await })
    });
    for written in futures::future::join_all(writers).await {
        written??;
    }
    let garden = notes.notes.get("garden").await?.ok_or("it was written")?;
    assert_eq!(garden.version, 21);
    assert_eq!(notes.with("flowers").await?, ["garden", "loom"]);
    assert_eq!(notes.with("patterns").await?, ["engine"]);
    let mut indexed = BTreeSet::new();
    let mut entries = notes.index.range(..);
    while let Some((word, _, name)) = entries.try_next().await? {
        if *name == *b"garden" {
            assert!(indexed.insert(String::from_utf8(word.into_vec())?), "once");
        }
    }
    assert_eq!(indexed, words(&garden.text));

    // When all notes are gone, so is the index.
    for name in ["engine", "loom", "garden"] {
        assert!(notes.remove(name).await?);
    }
    assert!(!notes.remove("loom").await?);
    assert_eq!(notes.completions("").await?, []);
    println!("20 writers of one note left {} words, each in the index once", indexed.len());
    Ok(notes.db.close().await?)
}

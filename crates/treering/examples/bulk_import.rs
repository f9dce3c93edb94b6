//! Importing a file: a bulk load builds the tree's pages from the leaves up, whatever the order of the
//! lines, and the tree has all of them at once, durably, or none.
//!
//! ```text
//! cargo run --release -p treering --example bulk_import                # 100,000 lines of its own
//! cargo run --release -p treering --example bulk_import -- FILE DB     # key, tab, value
//! ```

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use futures::TryStreamExt;
use treering::{Database, ErrorKind, LoadReport, Options};

type Failure = Box<dyn std::error::Error>;

/// Reads `file` into the tree `imported`. Lines may come in any order; of several with one key the last
/// one counts.
async fn import(db: &Database, file: &Path) -> Result<LoadReport, Failure> {
    let tree = db.tree("imported").await?;
    let mut load = tree.load();
    // Reading blocks this task's thread a little: what a service should not do, and a program may. The
    // sorting and writing are done by a thread of the load's own.
    for line in BufReader::new(File::open(file)?).split(b'\n') {
        let line = line?;
        let tab = line.iter().position(|&byte| byte == b'\t').unwrap_or(line.len());
        let (key, value) = line.split_at(tab);
        load.put(key, value.get(1..).unwrap_or_default()).await?;
    }
    Ok(load.finish().await?)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => try_itself(100_000).await,
        [file, database] => {
            let db = Database::open(database).await?;
            let report = import(&db, file.as_ref()).await?;
            println!("{} keys, {} pages", report.keys, report.pages);
            Ok(db.close().await?)
        }
        _ => Err("usage: bulk_import [FILE DATABASE]".into()),
    }
}

async fn try_itself(lines: u64) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("lines.tsv");
    let mut out = BufWriter::new(File::create(&file)?);
    for n in 0..lines {
        // In no order, and each once: multiplying by an odd number is one to one.
        let key = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        writeln!(out, "{key:016x}\tline {n}")?;
    }
    out.flush()?;

    // Little memory for sorting, so that this shows runs in temporary files, which are merged.
    let options = Options::new().cache_size(64 << 20).load_memory(1 << 20);
    let db = options.open(folder.path().join("data.tr")).await?;
    let begun = Instant::now();
    let report = import(&db, &file).await?;
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!((report.keys, report.at_once), (lines, true));
    assert!(report.spilled > 0, "it did not fit into 1 MiB");

    // All of them are there, in order, and say what they should.
    let tree = db.find_tree("imported")?.ok_or("the tree was made")?;
    let (mut count, mut last, mut range) = (0, Vec::new(), tree.range(..));
    while let Some(chunk) = range.next_chunk().await? {
        for (key, value) in chunk.iter() {
            assert!(count == 0 || last.as_slice() < key, "in order, and each once");
            let n: u64 = str::from_utf8(value)?.trim_start_matches("line ").parse()?;
            assert_eq!(format!("{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).as_bytes(), key);
            (count, last) = (count + 1, key.to_vec());
        }
    }
    assert_eq!(count, lines);

    // A load that is dropped has loaded nothing; one that fails neither.
    let other = db.tree("other").await?;
    let mut given_up = other.load();
    given_up.put("a", "1").await?;
    drop(given_up);
    let mut failing = other.load();
    failing.put(vec![b'k'; 100_000], "too long a key").await?;
    let failed = failing.finish().await.expect_err("no page takes such a key");
    assert_eq!(failed.kind(), ErrorKind::InvalidInput);
    assert!(other.range(..).try_next().await?.is_none());
    println!(
        "{lines} lines in {seconds:.2} s: {:.0} a second, {} pages, {} MiB of sorted runs",
        lines as f64 / seconds,
        report.pages,
        report.spilled >> 20
    );
    Ok(db.close().await?)
}

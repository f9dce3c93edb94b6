//! What `dump` writes, `restore` reads; and what a tree looks like from inside. With `rename-tree`
//! and `compact`, which show in it.

#![allow(clippy::unwrap_used, reason = "a failure in a test is to panic")]

mod common;

use std::io::Write;
use std::process::Stdio;

use common::{Place, Ran, pennysort, records, scanned};
use futures::StreamExt;
use treering::{Database, Durability, Error, Gap, Options, TreeOptions};

fn wait<T>(future: impl Future<Output = Result<T, Error>>) -> T {
    futures::executor::block_on(future).unwrap()
}

/// Runs the program with this on its standard input.
fn feed(place: &Place, line: &str, input: &[u8]) -> Ran {
    let mut command = place.command(line.split_whitespace());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // It may end before it has read everything: it was wrong early.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    Ran { code: output.status.code(), out: output.stdout, err }
}

/// Keys that are hard to write down.
fn keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = vec![vec![], vec![0], vec![0, 0xff], b"a\\nb".to_vec()];
    keys.extend((0..=255).map(|byte| vec![b' ', byte, b'\n', byte]));
    keys.extend((0..3000u32).map(|number| number.to_be_bytes().to_vec()));
    keys
}

async fn fill(db: &Database) -> Result<(), Error> {
    let plain = db.tree("plain").await?;
    let typed = TreeOptions::new().gap(Gap::OneIn(4)).key_type("(u64, \u{e9})", 7);
    let typed = db.tree_with("a name\nof two lines", typed).await?;
    for (number, key) in keys().iter().enumerate() {
        let value = vec![number as u8; number % 200];
        plain.put(key, &value).durability(Durability::None).await?;
        typed.put(key, b"").durability(Durability::None).await?;
    }
    let large: Vec<u8> = (0..300_000u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
    plain.put("large", &large).await?;
    let multi = db.multi_tree("multi").await?;
    multi.insert_dup("large", &large[..100_000]).await?;
    // In an order that is not that of the values.
    for number in (0..500u32).rev() {
        let key: &[u8] = if number % 2 == 0 { b"" } else { b"odd\0" };
        multi.insert_dup(key, number.to_string()).durability(Durability::None).await?;
    }
    db.tree("empty").await?;
    db.close().await
}

#[test]
fn j6_everything_dumped_is_restored_with_duplicates_in_their_order_and_options() {
    let place = Place::new();
    let options = Options::new().page_size(1024);
    wait(async { fill(&options.open(place.path("db")).await?).await });
    let dump = place.run("dump db");
    assert_eq!((dump.code, dump.err.as_str()), (Some(0), ""));
    assert!(dump.out.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')));

    let restored = feed(&place, "restore copy", &dump.out).fine();
    let pairs = keys().len() * 2 + 1 + 500 + 1;
    assert_eq!(restored, format!("restored 4 trees, {} pairs\n", common::grouped(pairs)));
    assert!(place.run("dump copy").out == dump.out, "the copy's dump is the same");
    place.run("verify copy").fine();

    wait(async {
        let db = Options::new().create(false).open(place.path("copy")).await?;
        assert_eq!(db.stats().page_size, 1024);
        let original = Options::new().create(false).open(place.path("db")).await?;
        assert_eq!(db.trees(), original.trees());
        for (name, len) in [("plain", keys().len() + 1), ("a name\nof two lines", keys().len())] {
            let trees = [&db, &original].map(|db| db.raw_tree(name).unwrap().unwrap());
            let [copied, there]: [Vec<_>; 2] = [
                trees[0].range(..).map(|item| item.unwrap()).collect().await,
                trees[1].range(..).map(|item| item.unwrap()).collect().await,
            ];
            assert_eq!(copied.len(), len);
            assert_eq!(copied, there, "{name}");
        }
        let multi = db.multi_tree("multi").await?;
        let values: Vec<_> =
            multi.get_all(b"odd\0").map(|item| item.unwrap().1.into_vec()).collect().await;
        let expected: Vec<_> = (0..500)
            .rev()
            .filter(|n| n % 2 == 1)
            .map(|n: u32| n.to_string().into_bytes())
            .collect();
        assert_eq!(values, expected);
        original.close().await?;
        db.close().await
    });
}

#[test]
fn j6_one_tree_is_dumped_by_its_name() {
    let (place, records) = (Place::new(), records(0..300));
    place.write("in.txt", pennysort(&records));
    place.run("load db in.txt").fine();
    place.run("put db k v --tree other").fine();
    let dump = place.run("dump db --tree other").fine();
    assert_eq!(dump, "treering-dump 1\npage-size 4096\ntree other\ndata\n k\n v\nend 1\ndone 1\n");
    let error = place.run("dump db --tree nobody").failed(2);
    assert!(error.contains("there is no tree \"nobody\" in db: it has \"main\", \"other\""));

    // Into a database that has other trees; not over one that is there.
    let main = place.run("dump db --tree main").out;
    place.run("rename-tree db main first").fine();
    feed(&place, "restore db", &main).fine();
    assert_eq!(place.run("scan db").out, scanned(&records));
    assert_eq!(place.run("scan db --tree first").out, scanned(&records));
    let error = feed(&place, "restore db", &main).failed(2);
    assert!(error.contains("restoring the tree \"main\": it is there already"), "{error}");
    let error = place.run("rename-tree db main first").failed(2);
    assert!(error.contains("there is a tree \"first\" already"), "{error}");

    // A tree that was dropped can be restored.
    place.run("drop-tree db main").fine();
    let error = place.run("drop-tree db main").failed(2);
    assert!(error.contains("there is no tree \"main\""), "{error}");
    feed(&place, "restore db", &main).fine();
    assert_eq!(place.run("scan db").out, scanned(&records));
    place.run("verify db").fine();
}

#[test]
fn j6_a_dump_that_is_not_whole_or_not_one_is_refused_and_the_line_named() {
    let place = Place::new();
    place.run("put db key value").fine();
    let dump = place.run("dump db").fine();
    let restore = |number: usize, input: &str| {
        let ran = feed(&place, &format!("restore copy{number}"), input.as_bytes());
        ran.failed(1)
    };
    let lines: Vec<&str> = dump.lines().collect();
    for kept in 1..lines.len() {
        let part: String = lines[..kept].iter().map(|line| format!("{line}\n")).collect();
        let error = restore(kept, &part);
        let expected = format!("line {}: the dump ends here", kept + 1);
        assert!(error.contains(&expected), "{kept}: {error}");
        let torn = restore(100 + kept, part.trim_end());
        assert!(torn.contains("the dump ends here") || kept == 1, "{kept}: {torn}");
    }
    for (number, (from, to, why)) in [
        ("treering-dump 1", "treering-dump 2", "line 1: it is no dump"),
        ("end 1", "end 2", "line 7: the tree had 2 pairs, and 1 were read"),
        ("done 1", "done 3", "line 8: 1 trees were read, and there should be 3"),
        (" value", " val\\ue", "line 6: a byte is not escaped"),
        (" value", "value", "line 6: the value of a key should be here"),
        ("tree main", "three main", "line 3: no dump has such a line"),
        ("done 1\n", "done 1\n\n", "line 9: there is something behind"),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(dump.contains(from));
        let error = restore(1000 + number, &dump.replace(from, to));
        assert!(error.contains(why), "{error}");
    }
    assert!(!place.path("copy1000").exists(), "what is no dump makes no database");
}

#[test]
fn j6_a_restore_that_fails_leaves_no_tree_behind_and_can_be_repeated() {
    let place = Place::new();
    wait(async { fill(&Options::new().open(place.path("db")).await?).await });
    let dump = place.run("dump db").fine();
    let cut = &dump[..dump.len() - 20];
    assert!(feed(&place, "restore copy", cut.as_bytes()).failed(1).contains("the dump ends here"));
    assert_eq!(place.run("trees copy").fine(), "");
    feed(&place, "restore copy", dump.as_bytes()).fine();
    assert_eq!(place.run("dump copy").fine(), dump);
    assert!(place.run("trees copy").fine().contains("a name\\nof two lines\t"), "one line each");
}

#[test]
fn j6_the_structure_counts_large_values() {
    let place = Place::new();
    place.write("in", format!("a\t{}\nb\tsmall\n", "x".repeat(50_000)));
    place.run("load db in --format tsv").fine();
    let text = place.run("dump db --structure").fine();
    assert!(text.contains(" [\"\", ..) 2 slots (1 large) "), "{text}");
}

/// The pages of a level are a chain: each begins where the one on its left ends, the inner pages
/// name exactly the level below, and the slots of the leaves are the keys.
#[test]
fn j6_the_structure_shows_each_page_level_by_level() {
    let (place, records) = (Place::new(), records(0..3000));
    place.write("in.txt", pennysort(&records));
    place.run("load db in.txt --page-size 512").fine();
    let text = place.run("dump db --structure --tree main").fine();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("tree \"main\""));

    let (mut levels, mut slots) = (Vec::new(), 0);
    let mut expected: Option<Vec<u64>> = None;
    let (mut ids, mut children): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
    let mut right = String::new();
    for line in lines.chain(["level end"]) {
        if let Some(level) = line.strip_prefix("level ") {
            assert_eq!(right, "", "the last page of a level has no right link");
            if let Some(expected) = expected.take() {
                assert_eq!(ids, expected, "the pages of a level are the children of the one above");
            }
            if !levels.is_empty() {
                expected = Some(std::mem::take(&mut children));
            }
            ids.clear();
            levels.push(level.to_owned());
            continue;
        }
        let rest = line.strip_prefix("  page ").unwrap();
        let (id, rest) = rest.split_once(' ').unwrap();
        assert!(right.is_empty() || right == id, "{right} is followed by {id}");
        ids.push(id.parse().unwrap());
        // Fences may have anything in them, but for a closing one these words.
        let (_, rest) =
            rest.rsplit_once(") ").filter(|(_, rest)| rest.contains(" slots ")).unwrap();
        let words: Vec<&str> = rest.split(' ').collect();
        assert_eq!((words[1], words[3]), ("slots", "%"), "{line}");
        let fill: u32 = words[2].parse().unwrap();
        assert!(fill > 10 && fill <= 100, "{line}");
        let link = words.iter().position(|word| *word == "->");
        right = link.map_or(String::new(), |at| words[at + 2].to_owned());
        match words.iter().position(|word| *word == "children") {
            Some(at) => {
                children.extend(words[at + 1..].iter().map(|id| id.parse::<u64>().unwrap()))
            }
            None => slots += words[0].parse::<usize>().unwrap(),
        }
    }
    let height = levels.len() - 1;
    assert!(height >= 3, "{levels:?}");
    let down: Vec<String> = (0..height).rev().map(|level| level.to_string()).collect();
    assert_eq!(levels[..height], down);
    assert_eq!(slots, records.len(), "pages of this size have no fillers");
}

#[test]
fn j6_the_structure_of_a_small_tree_is_one_leaf() {
    let place = Place::new();
    place.run("put db key value").fine();
    let text = place.run("dump db --structure").fine();
    let mut lines = text.lines();
    assert_eq!((lines.next(), lines.next()), (Some("tree \"main\""), Some("level 0")));
    let leaf = lines.next().unwrap();
    assert!(leaf.contains(" [\"\", ..) 1 slots 2 %"), "{leaf}");
    assert_eq!(lines.next(), None);
}

#[test]
fn compacting_makes_the_file_shorter_and_prefixes_are_scanned_both_ways() {
    let (place, records) = (Place::new(), records(0..5000));
    place.write("in.txt", pennysort(&records));
    place.run("load db in.txt").fine();
    place.run("threadskv db d 12 0 100 0 in.txt");
    let said = place.run("compact db").fine();
    let numbers: Vec<u64> =
        said.split(' ').filter_map(|word| word.trim_end().replace(',', "").parse().ok()).collect();
    assert!(numbers.len() == 2 && numbers[1] < numbers[0] / 2, "{said}");
    assert_eq!(place.run("count db").fine(), "0\n");

    for key in ["a1", "a2", "b1", "a"] {
        place.run(&format!("put db {key} v")).fine();
    }
    assert_eq!(place.run("scan db --prefix a").fine(), "a\tv\na1\tv\na2\tv\n");
    assert_eq!(place.run("scan db --prefix a --reverse").fine(), "a2\tv\na1\tv\na\tv\n");
    assert_eq!(place.run("scan db --prefix a --from a1").code, Some(2));
}

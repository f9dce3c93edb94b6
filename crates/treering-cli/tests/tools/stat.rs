//! `stat`, for people and for programs.

use serde_json::Value;

use crate::common::{Place, pennysort, records};

#[test]
fn the_trees_and_the_numbers_are_there_in_both_forms() {
    let (place, records) = (Place::new(), records(0..15_000));
    place.write("in.txt", pennysort(&records));
    place.run("load db in.txt --tree people").fine();
    place.run("put db k v --tree other").fine();
    let json: Value = serde_json::from_str(&place.run("stat db --json").fine()).unwrap();
    assert_eq!(json["trees"], serde_json::json!(["other", "people"]));
    let [other, people] = json["tree_details"].as_array().unwrap().as_slice() else {
        panic!("{json}");
    };
    assert_eq!((other["height"].as_u64(), other["entries"].as_u64()), (Some(1), Some(1)));
    assert_eq!((other["inner_pages"].as_u64(), other["leaves"].as_u64()), (Some(0), Some(1)));
    assert_eq!(people["name"], "people");
    assert!(people["height"].as_u64().unwrap() >= 2, "{json}");
    let leaves = people["leaves"].as_u64().unwrap();
    assert!(leaves > 256, "as many leaves as are looked at would be exact: {json}");
    assert_eq!(people["exact"], false);
    // A sample of keys in no order is a good one.
    let about = people["entries"].as_f64().unwrap();
    assert!((about / 15_000.0 - 1.0).abs() < 0.2, "{json}");
    for share in [&people["fill"], &json["file_fill"], &json["log_fill"]] {
        assert!((0.0..=1.0).contains(&share.as_f64().unwrap()), "{json}");
    }
    // The opening has written a checkpoint: that is the last one.
    assert_eq!(json["checkpoints"], 1);
    assert!(json["io"].as_str().unwrap().contains(if cfg!(target_os = "linux") {
        ","
    } else {
        ""
    }));
    assert_eq!(json["checkpoint_sequence"], json["sequence"]);
    assert!(json["checkpoint_ms"].is_u64() && json["checkpoint_ago_ms"].is_u64());
    for key in ["page_size", "replayed", "file_bytes", "free_bytes", "pool_loads", "log_used_bytes"]
    {
        assert!(json[key].is_u64(), "{key}");
    }

    let exact: Value = serde_json::from_str(&place.run("stat db --json --exact").fine()).unwrap();
    let people = &exact["tree_details"][1];
    assert_eq!((people["exact"].as_bool(), people["entries"].as_u64()), (Some(true), Some(15_000)));

    let table = place.run("stat db --exact").fine();
    let line = |begins: &str| table.lines().find(|line| line.starts_with(begins)).unwrap();
    assert!(line("\"people\"").ends_with(" 15,000"), "{table}");
    assert!(line("trees").contains("height") && line("trees").contains("entries"), "{table}");
    for words in ["page file, bytes", "  used of the file", "log in use", "frames in the pool"] {
        line(words);
    }
    // All that has a name in JSON is in words here.
    let unnamed = |line: &&str| line.contains('_') && !line.starts_with("reached by");
    assert_eq!(table.lines().find(unnamed), None, "a number without words");
}

#[test]
fn a_tree_that_is_empty_and_a_database_without_trees_are_shown() {
    let place = Place::new();
    place.run("put db k v").fine();
    place.run("del db k").fine();
    let table = place.run("stat db").fine();
    assert!(
        table.lines().any(|line| line.starts_with("\"main\"") && line.ends_with(" 0")),
        "{table}"
    );
    place.run("drop-tree db main").fine();
    let json: Value = serde_json::from_str(&place.run("stat db --json").fine()).unwrap();
    assert_eq!(json["trees"].as_array().map(Vec::len), Some(0));
    place.run("stat db").fine();
}

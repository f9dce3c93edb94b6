//! `map` draws a picture that XML readers take, with all slots in it; `dump --dot` a graph that
//! Graphviz takes, with all pages in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::{Place, pennysort, records};

/// How many cells each class of rectangles covers.
fn cells(svg: &str) -> BTreeMap<String, u64> {
    let document = roxmltree::Document::parse(svg).unwrap_or_else(|error| panic!("{error}: {svg}"));
    let mut cells = BTreeMap::new();
    for rect in document.descendants().filter(|node| node.has_tag_name("rect")) {
        let Some(class) = rect.attribute("class") else { continue };
        let width: f64 = rect.attribute("width").unwrap().parse().unwrap();
        // Seven pixels a cell, but for the gap behind the last.
        *cells.entry(class.to_owned()).or_default() += ((width + 0.5) / 7.0).round() as u64;
    }
    cells.remove("legend");
    cells
}

fn words(svg: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(svg).unwrap();
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    texts.map(|text| text.text().unwrap().to_owned()).collect()
}

#[test]
fn each_slot_is_a_cell_of_the_map() {
    let (place, records) = (Place::new(), records(0..5_000));
    place.write("in.txt", pennysort(&records));
    place.run("load db in.txt").fine();
    place.run_args(["put", "db", "k", &"large ".repeat(5000), "--tree", "<&\">"]).fine();
    let svg = place.run("map db").fine();
    let json: Value = serde_json::from_str(&place.run("stat db --json --exact").fine()).unwrap();
    let cells = cells(&svg);
    let slots: u64 = cells.values().sum();
    let file = json["file_bytes"].as_u64().unwrap();
    assert!(slots * 4096 <= file && file - slots * 4096 < 64 << 10, "{cells:?} of {file}");
    let trees = json["tree_details"].as_array().unwrap();
    let sum = |what: &str| trees.iter().map(|tree| tree[what].as_u64().unwrap()).sum::<u64>();
    assert_eq!(cells["leaf"], sum("leaves"), "{cells:?}");
    assert_eq!(cells["inner"], sum("inner_pages"));
    assert_eq!(cells["value"], 8, "30,000 bytes");
    assert!(cells["free"] > 0 && cells["map"] > 0 && cells["other"] > 0, "{cells:?}");
    let words = words(&svg);
    assert!(words.iter().any(|line| line.starts_with("leaves of \"<&\\\">\": 1")), "{words:?}");
    assert!(words[0].starts_with("db: ") && words[0].ends_with(" % in use"), "{words:?}");

    // The same to a file, and a place where there can be none.
    assert_eq!(place.run("map db --output map.svg").fine(), "");
    assert!(fs::read_to_string(place.path("map.svg")).unwrap().starts_with("<svg "));
    let error = place.run("map db --output db/lock/map.svg").failed(1);
    assert!(error.contains("writing the picture to db/lock/map.svg"), "{error}");
}

#[test]
fn a_large_file_is_drawn_with_many_slots_a_cell() {
    let (place, records) = (Place::new(), records(0..80_000));
    place.write("in.txt", pennysort(&records));
    place.run("load db in.txt --bulk --page-size 512").fine();
    let svg = place.run("map db").fine();
    let words = words(&svg);
    assert!(words[1].starts_with("a cell is "), "{words:?}");
    assert!(!words[1].starts_with("a cell is a page,"), "{words:?}");
    let cells = cells(&svg);
    assert!(cells.values().sum::<u64>() <= 128 * 128, "{cells:?}");
    assert!(cells["leaf"] > 5000, "{cells:?}");
}

/// Nodes and edges of a graph in the language of Graphviz, as it is written here.
fn graph(dot: &str) -> (BTreeSet<&str>, Vec<(&str, &str)>) {
    assert!(dot.starts_with("digraph treering {\n") && dot.ends_with("}\n"), "{dot}");
    let outside = dot.replace("\\\"", "");
    let outside: String = outside.split('"').step_by(2).collect();
    assert_eq!(outside.matches('{').count(), outside.matches('}').count(), "{dot}");
    let (mut nodes, mut edges) = (BTreeSet::new(), Vec::new());
    for line in dot.lines().map(str::trim).filter(|line| line.starts_with('p')) {
        let (node, rest) = line.split_once(" [label=").unwrap();
        assert!(nodes.insert(node), "{node} is there twice");
        let (_, rest) = rest.split_once("];").unwrap();
        for edge in rest.split(';').map(str::trim).filter(|edge| !edge.is_empty()) {
            let (from, to) = edge.split_once(" -> ").unwrap();
            edges.push((from, to.split(' ').next().unwrap()));
        }
    }
    (nodes, edges)
}

#[test]
fn the_graph_has_all_pages_and_only_links_to_such() {
    let (place, records) = (Place::new(), records(0..5_000));
    place.write("in.txt", pennysort(&records));
    place.run("load db in.txt").fine();
    place.run_args(["put", "db", "k", "v", "--tree", "a \"tree\" {"]).fine();
    let dot = place.run("dump db --dot").fine();
    let (nodes, edges) = graph(&dot);
    let json: Value = serde_json::from_str(&place.run("stat db --json --exact").fine()).unwrap();
    let trees = json["tree_details"].as_array().unwrap();
    let pages =
        |tree: &Value| tree["leaves"].as_u64().unwrap() + tree["inner_pages"].as_u64().unwrap();
    assert_eq!(nodes.len() as u64, trees.iter().map(pages).sum::<u64>());
    for (from, to) in &edges {
        assert!(nodes.contains(from) && nodes.contains(to), "{from} -> {to}");
    }
    // Each page but the roots has a parent; each but the last of a level a right sibling.
    assert!(edges.len() >= 2 * (nodes.len() - 10), "{} of {}", edges.len(), nodes.len());
    assert!(dot.contains("label=\"a \\\"tree\\\" {\";"), "{dot}");

    let upper = place.run("dump db --tree main --dot --levels 1").fine();
    let (root, none) = graph(&upper);
    assert_eq!((root.len(), none.len()), (1, 0), "{upper}");
    place.run("dump db --levels 1").failed_at_the_command_line();
    place.run("dump db --dot --structure").failed_at_the_command_line();

    // Where Graphviz is installed, it reads it.
    place.write("graph.dot", dot);
    let drawn = Command::new("dot")
        .args(["-Tcanon", "graph.dot", "-o", "out"])
        .current_dir(place.path(""))
        .stdin(Stdio::null())
        .status();
    match drawn {
        Ok(status) => assert!(status.success()),
        Err(_) => eprintln!("not read by Graphviz: there is none"),
    }
}

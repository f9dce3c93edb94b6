//! `bench` measures, says what that means, draws it, and leaves nothing behind.

use std::fs;

use crate::common::Place;

#[test]
fn a_short_measurement_has_all_of_it() {
    let place = Place::new();
    fs::create_dir(place.path("disk")).unwrap();
    let told = place.run("bench disk --seconds 1 --records 5000 --plot plot.svg").fine();
    let whats = [
        "bulk load, durable at its end",
        "durable commits, 1 task",
        "durable commits, 16 tasks",
        "durable commits, 256 tasks",
        "lookups in memory, 1 task",
        "lookups in memory, 64 tasks",
        "lookups on disk, 1 task",
        "lookups on disk, 64 tasks",
        "scan from disk",
    ];
    for what in whats {
        let line = told.lines().find(|line| line.starts_with(&format!("{what}  ")));
        let line = line.unwrap_or_else(|| panic!("{what} in {told}"));
        let rate = line[what.len()..].split_once("/s").unwrap().0.trim().replace(',', "");
        assert!(rate.parse::<u64>().unwrap() > 0, "{line}");
    }
    let (_, words) = told.split_once("what to expect here:").unwrap();
    for begin in ["- A durable commit takes", "- Commits that come", "- A lookup", "- Loading"] {
        assert!(words.contains(begin), "{begin} in {words}");
    }
    assert_eq!(fs::read_dir(place.path("disk")).unwrap().count(), 0, "something is left");

    let plot = fs::read_to_string(place.path("plot.svg")).unwrap();
    let document = roxmltree::Document::parse(&plot).unwrap();
    let bars = document.descendants().filter(|node| node.attribute("class") == Some("bar"));
    assert_eq!(bars.count(), whats.len());
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    let texts: Vec<&str> = texts.filter_map(|text| text.text()).collect();
    for what in whats {
        assert!(texts.contains(&what), "{what} in {texts:?}");
    }
}

#[test]
fn a_folder_that_cannot_be_is_refused() {
    let place = Place::new();
    let error = place.run("bench nowhere").failed(2);
    assert!(error.contains("no temporary folder can be made in nowhere"), "{error}");
    for number in
        ["--seconds 0", "--seconds 18446744073709551615", "--records 18446744073709551615"]
    {
        place.run(&format!("bench . {number}")).failed_at_the_command_line();
    }
}

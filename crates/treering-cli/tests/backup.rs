//! `backup`: a copy that is a database, and a destination that is new or empty.

#![allow(clippy::unwrap_used, reason = "a failure in a test is to panic")]

mod common;

use common::{Place, pennysort, records, scanned};

#[test]
fn a_backup_is_a_database_with_everything_in_it() {
    let (place, records) = (Place::new(), records(0..5_000));
    place.write("in.txt", pennysort(&records));
    place.run("load db in.txt").fine();
    let said = place.run("backup db copy").fine();
    assert!(said.contains("5,001") && said.contains("copy"), "{said}");
    assert_eq!(place.run("scan copy").out, scanned(&records));
    assert!(place.run("verify copy").fine().starts_with("all is well: 1 tree, 5,000 keys, "));

    // There is a database by now, the source is one, and nothing is made from nothing.
    for line in ["backup db copy", "backup db db", "backup nowhere other"] {
        place.run(line).failed(2);
    }
    assert!(!place.path("other").exists() && !place.path("nowhere").exists());
    assert_eq!(place.run("scan db").out, scanned(&records));
}

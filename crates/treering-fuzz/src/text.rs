//! What the `treering` program reads from outside: dumps, records in lines, its arguments.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use treering_cli::fuzzing::{
    Lines, escaped, read_arguments, read_dump, read_lines, unescaped, write_dump,
};

use crate::input::Input;

/// Reads the data as a dump. What is a dump survives being written and read again.
pub fn dump(data: &[u8]) {
    assert_eq!(unescaped(&escaped(data)).as_deref(), Some(data), "any bytes can be escaped");
    if let Some(bytes) = unescaped(data) {
        assert_eq!(unescaped(&escaped(&bytes)), Some(bytes));
    }
    if let Ok(dump) = read_dump(data) {
        let text = write_dump(&dump);
        assert_eq!(read_dump(&text), Ok(dump), "a dump says the same when it is written again");
        let cut = &text[..text.len() - 1];
        assert!(read_dump(cut).is_err(), "a dump that was cut short is none");
    }
}

/// Reads the data as lines of each format. The records are the lines, up to the first that is none.
pub fn lines(data: &[u8]) {
    let mut input = Input::new(data);
    let lines = match input.byte() % 3 {
        0 => Lines::Pennysort,
        1 => Lines::Keys,
        _ => Lines::Tsv,
    };
    let batch = 1 + input.below(200);
    let text = input.rest();
    let (pairs, complaint) = read_lines(text, lines, batch);
    let mut expected = text.strip_suffix(b"\n").unwrap_or(text).split(|byte| *byte == b'\n');
    if !text.is_empty() {
        for (key, value) in &pairs {
            let joined = match lines {
                Lines::Tsv => [key, &b"\t"[..], value].concat(),
                Lines::Keys | Lines::Pennysort => [&key[..], value].concat(),
            };
            assert_eq!(expected.next(), Some(&joined[..]), "a record is a line");
        }
    }
    let left = if text.is_empty() { 0 } else { expected.count() };
    assert_eq!(complaint.is_some(), left > 0, "all lines are records, or one is named");
}

/// Reads the data as arguments, separated by bytes 0.
pub fn arguments(data: &[u8]) {
    let arguments = data.split(|byte| *byte == 0).take(64);
    let arguments = arguments.map(|argument| OsString::from_vec(argument.to_vec()));
    let named = std::iter::once(OsString::from("treering")).chain(arguments).collect();
    match read_arguments(named) {
        Ok(meaning) => assert!(!meaning.is_empty()),
        Err(complaint) => assert!(!complaint.is_empty(), "an error says something"),
    }
}

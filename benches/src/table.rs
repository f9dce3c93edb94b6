//! Tables in Markdown, a row at a time: a long program shows what it has so far.

use std::fmt::Display;

/// Prints the head of a table.
pub fn head(columns: &[&str]) {
    row(columns);
    println!("|{}", "---|".repeat(columns.len()));
}

/// Prints one row.
pub fn row<T: Display>(cells: &[T]) {
    let cells: Vec<String> = cells.iter().map(T::to_string).collect();
    println!("| {} |", cells.join(" | "));
}

/// A whole number with commas between the thousands.
pub fn whole(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = if number < 0.0 { "-".to_string() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What a ratio should be, and whether it is: how a target reads in the last column of a table.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// There is none.
    None,
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
}

impl Target {
    /// The cell that says what was to be reached, and whether it was.
    pub fn cell(self, ratio: f64) -> String {
        let (text, reached) = match self {
            Self::None => return String::new(),
            Self::AtLeast(bound) => (format!("at least {bound}"), ratio >= bound),
            Self::AtMost(bound) => (format!("at most {bound}"), ratio <= bound),
        };
        if reached { text } else { format!("**missed:** {text}") }
    }
}

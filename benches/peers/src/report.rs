//! Medians, ratios and the table.

use serde::{Deserialize, Serialize};

use crate::args::Args;
use crate::disk::{DISK, RAW};
use crate::engines::OURS;
use crate::measure::{Measured, Unit};
use crate::parent::machine;

/// One figure of one engine in one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub run: usize,
    pub engine: String,
    #[serde(flatten)]
    pub measured: Measured,
}

/// All figures, and what they were measured on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub machine: String,
    pub command: String,
    pub engines: Vec<String>,
    pub samples: Vec<Sample>,
}

/// A row of the table.
pub struct Row {
    pub name: String,
    pub unit: Unit,
    /// The median of each engine, in the order of the report's.
    pub medians: Vec<Option<f64>>,
}

impl Report {
    pub fn new(args: &Args) -> Self {
        let command: Vec<String> = std::env::args().skip(1).collect();
        Self {
            machine: machine(args.folder.as_deref()),
            command: format!("cargo run --release -- {}", command.join(" ")),
            engines: args.engines.clone(),
            samples: Vec::new(),
        }
    }

    /// Takes in the figures of another time.
    pub fn add(&mut self, other: Self) {
        self.command = format!("{}`, `{}", self.command, other.command);
        let new = other.engines.into_iter().filter(|engine| !self.engines.contains(engine));
        let new: Vec<String> = new.collect();
        self.engines.extend(new);
        self.samples.extend(other.samples);
    }

    /// The engines that ours is compared with.
    pub fn peers(&self) -> impl Iterator<Item = &str> {
        self.engines.iter().map(String::as_str).filter(|engine| *engine != OURS)
    }

    /// The rows, in the order in which they were first measured.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for sample in self.samples.iter().filter(|sample| sample.engine != DISK) {
            let Measured { row: name, unit, .. } = &sample.measured;
            if rows.iter().all(|row| row.name != *name) {
                let medians = self.engines.iter().map(|engine| self.median(engine, name));
                let medians = medians.collect();
                rows.push(Row { name: name.clone(), unit: *unit, medians });
            }
        }
        rows
    }

    fn samples(&self, row: &str) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.measured.row == row)
    }

    /// What a row counts, if it was measured.
    pub fn unit(&self, row: &str) -> Option<Unit> {
        self.samples(row).next().map(|sample| sample.measured.unit)
    }

    /// The median of the runs.
    pub fn median(&self, engine: &str, row: &str) -> Option<f64> {
        let found = self.samples(row).filter(|sample| sample.engine == engine);
        let mut values: Vec<f64> = found.map(|sample| sample.measured.value).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            count if count % 2 == 0 => Some(f64::midpoint(values[middle - 1], values[middle])),
            _ => Some(values[middle]),
        }
    }

    /// How much better ours is than the best of the others: 2 is twice as good, below 1 is a loss.
    pub fn ratio(&self, row: &Row) -> Option<f64> {
        let of = |ours: bool| {
            let engines = self.engines.iter().zip(&row.medians);
            engines.filter(move |(engine, _)| (*engine == OURS) == ours).filter_map(|(_, m)| *m)
        };
        let ours = of(true).next()?;
        match row.unit.more_is_better() {
            true => of(false).reduce(f64::max).map(|best| ours / best),
            false => of(false).reduce(f64::min).map(|best| best / ours),
        }
    }

    /// The table, in Markdown.
    pub fn table(&self) -> String {
        let mut table = format!("{}\n\n`{}`\n\n", self.machine, self.command);
        if let Some(micros) = self.median(DISK, RAW) {
            table += &format!("The disk: {RAW} {micros:.0} us.\n\n");
        }
        table += &format!("| | {} | ours to the best other |\n", self.engines.join(" | "));
        table += &format!("|---|{}---:|\n", "---:|".repeat(self.engines.len()));
        for row in self.rows() {
            let cells: Vec<String> = row.medians.iter().map(|m| cell(*m, row.unit)).collect();
            let ratio = match self.ratio(&row) {
                None => String::new(),
                Some(ratio) if ratio < 1.0 => format!("**{ratio:.2}**"),
                Some(ratio) => format!("{ratio:.2}"),
            };
            let unit = match row.unit {
                Unit::PerSecond => "/s",
                Unit::Micros => ", us",
                Unit::MiB => ", MiB",
                Unit::PerByte => "",
            };
            table += &format!("| {}{unit} | {} | {ratio} |\n", row.name, cells.join(" | "));
        }
        table
    }
}

fn cell(median: Option<f64>, unit: Unit) -> String {
    let Some(value) = median else { return "-".into() };
    match unit {
        Unit::PerSecond => thousands(value),
        Unit::Micros | Unit::MiB if value >= 100.0 => thousands(value),
        Unit::Micros | Unit::MiB => format!("{value:.1}"),
        Unit::PerByte => format!("{value:.2}"),
    }
}

/// A whole number with its digits in groups of three.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
